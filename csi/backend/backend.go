// Package backend stores the volumes of one pool on the pool itself. A volume's record is an
// xattr of its directory or file, so no second store can disagree with it. Setting the record
// is the one step that creates a volume: data without a record is not a volume.
package backend

import (
	"context"
	"errors"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
)

// Backend is one layout on one mounted pool. Every method can be repeated, and may be
// interrupted anywhere.
type Backend interface {
	// Create creates a volume, or returns the volume that an earlier call of the same request
	// created.
	Create(ctx context.Context, c CreateRequest) (Volume, error)
	// Get reads a volume; ErrNotFound.
	Get(ctx context.Context, name string) (Volume, error)
	// Expand grows a volume to at least this size. It never shrinks.
	Expand(ctx context.Context, name string, size int64) (Volume, error)
	// SetReclaim changes what happens to the data when the volume is deleted.
	SetReclaim(ctx context.Context, name string, after schema.Reclaim) (Volume, error)
	// Rewrite writes the volume's record again, unchanged, on all sets of the pool.
	Rewrite(name string) error
	// Delete removes the volume at once and moves its data to the trash or the archive. A
	// volume that does not exist is no error.
	Delete(ctx context.Context, name string) error
	// List reads all volumes, in no order.
	List(ctx context.Context) ([]Volume, error)
}

// Directories is a layout whose volumes are directories that can be mounted.
type Directories interface {
	// Open opens the volume's directory for mounting; ErrNotFound. It creates nothing.
	Open(name string) (*safepath.Dir, error)
	// Place is the path of a volume with this name below the pool's root, whether it exists or
	// not; "" when it is the root, and no other volume shares the pool.
	Place(name string) string
}

// CreateRequest describes a volume to be created.
type CreateRequest struct {
	Request string // name of the request, which distinguishes repeats from conflicts
	Name    string // name of the volume, safe as a component of a path
	Size    int64  // bytes, at least
	Limit   int64  // bytes, at most; 0 is no limit
	Reclaim schema.Reclaim
	// Overcommit is how much may be provisioned per size of the pool, from 1.
	Overcommit float64
	// FileSystem is the file system that a block volume gets; "" for raw use.
	FileSystem string
	// FormatOptions are arguments of its mkfs, separated by spaces.
	FormatOptions string
	// Source is the Key of the Source that a block volume is a copy of; "" is an empty volume.
	Source string
	// Shared allows several nodes to attach a block volume at once.
	Shared bool
}

// Volume is the content of a record.
type Volume struct {
	Name    string
	Request string
	Size    int64 // bytes
	Reclaim schema.Reclaim
	Created time.Time
	// The rest is as in the CreateRequest.
	Overcommit                        float64
	FileSystem, FormatOptions, Source string
	Shared                            bool
}

// Errors. Their text is for people; the wrapped error determines the gRPC code.
var (
	ErrNotFound  = errors.New("there is no such volume")
	ErrExists    = errors.New("another volume has this name")
	ErrExhausted = errors.New("the pool has no room")
	ErrForeign   = errors.New("there is a directory that Atoll did not create")
	ErrChanged   = errors.New("the volume has changed during the call; repeat it")
)

// Directories of a pool that are not volumes.
const (
	atollDir = ".atoll"
	trash    = atollDir + "/trash"   // deleted, to be removed in the background
	archive  = atollDir + "/archive" // deleted, to be kept
)

// privateMode denies tenants of whole-pool volumes access to these directories.
const privateMode = 0o700

// trashPath returns the directory for a deleted volume's data, and an unused path in it.
func (r record) trashPath(layout schema.Layout, name string, now time.Time) (dir, place string) {
	dir, archived := trashDirs(layout)
	if r.reclaim() == schema.ReclaimArchive {
		dir = archived
	}
	return dir, dir + "/" + name + "." + now.UTC().Format("20060102T150405.000000000Z")
}

// satisfies reports whether an existing volume satisfies a request.
func (v Volume) satisfies(c CreateRequest) bool {
	return v.Request == c.Request && v.FileSystem == c.FileSystem && v.Source == c.Source && v.Shared == c.Shared &&
		v.Size >= c.Size && (c.Limit == 0 || v.Size <= c.Limit)
}
