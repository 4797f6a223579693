// Package backend keeps the volumes of one pool on the pool itself. A volume's
// record is an attribute of its folder, so there is no second place that could
// disagree with it, and setting the record is the one step that makes a volume:
// what has no record is no volume, whatever else is there.
package backend

import (
	"context"
	"errors"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
)

// Backend is one layout on one mounted pool. Every method can be repeated, and be
// cut off anywhere.
type Backend interface {
	// Create makes a volume, or finds the one that an earlier call of the same
	// request made.
	Create(ctx context.Context, c CreateRequest) (Volume, error)
	// Get reads a volume; ErrNotFound.
	Get(ctx context.Context, name string) (Volume, error)
	// Expand makes a volume at least this large. It never shrinks.
	Expand(ctx context.Context, name string, size int64) (Volume, error)
	// SetReclaim changes what becomes of the data.
	SetReclaim(ctx context.Context, name string, after schema.Reclaim) (Volume, error)
	// Rewrite writes the volume's record again, as it is, on all sets of the pool.
	Rewrite(name string) error
	// Delete makes the volume disappear at once; its data goes to the trash or
	// the archive. One that is not there is no error.
	Delete(ctx context.Context, name string) error
	// List reads all volumes, in no order.
	List(ctx context.Context) ([]Volume, error)
}

// Folders is a layout whose volumes are folders that can be mounted.
type Folders interface {
	// Open opens the volume's folder for mounting; ErrNotFound. It makes nothing.
	Open(name string) (*safepath.Dir, error)
	// Folder is where a volume of this name is, or would be, below the pool's root;
	// "" when it is the root, and no other volume is there to be kept in bounds.
	Folder(name string) string
}

// CreateRequest is what a request asks for.
type CreateRequest struct {
	Request string // the request's own name, which tells repeats from clashes
	Name    string // the volume's, safe as a path's component
	Size    int64  // bytes, at least
	Limit   int64  // bytes, at most; 0 is no limit
	Reclaim schema.Reclaim
	// Overcommit is how much of the pool the volume's class may promise, from 1.
	Overcommit float64
	// FileSystem is what is to be made on a block volume; "" on one that is handed out raw.
	FileSystem string
	// FormatOptions are words for the program that makes it, with spaces between.
	FormatOptions string
	// Source is what a block volume's first content is a copy of, by its Key; "" is nothing.
	Source string
	// Shared lets several nodes have a block volume at once.
	Shared bool
}

// Volume is what a record says.
type Volume struct {
	Name    string
	Request string
	Size    int64 // bytes
	Reclaim schema.Reclaim
	Created time.Time
	// Overcommit is that of the claim, and so are these.
	Overcommit                        float64
	FileSystem, FormatOptions, Source string
	Shared                            bool
}

// Errors. Their text is for people; what is wrapped decides the code of the answer.
var (
	ErrNotFound  = errors.New("there is no such volume")
	ErrExists    = errors.New("there is another volume of this name")
	ErrExhausted = errors.New("the pool has no room")
	ErrForeign   = errors.New("there is a folder that Atoll did not make")
	ErrChanged   = errors.New("the volume has changed under the call; repeat it")
)

// Folders of a pool that are not for volumes.
const (
	own     = ".atoll"
	trash   = own + "/trash"   // deleted, to be removed in the background
	archive = own + "/archive" // deleted, to be kept
)

// ownMode keeps tenants of whole-pool volumes out of what is not theirs.
const ownMode = 0o700

// aside gives the folder to which a deleted volume's data goes, and a place in it that
// nothing else has.
func (r record) aside(layout schema.Layout, name string, now time.Time) (folder, place string) {
	folder, archived := trashDirs(layout)
	if r.reclaim() == schema.ReclaimArchive {
		folder = archived
	}
	return folder, folder + "/" + name + "." + now.UTC().Format("20060102T150405.000000000Z")
}

// fits holds an existing volume to a claim.
func (v Volume) fits(c CreateRequest) bool {
	return v.Request == c.Request && v.FileSystem == c.FileSystem && v.Source == c.Source && v.Shared == c.Shared && v.Size >= c.Size && (c.Limit == 0 || v.Size <= c.Limit)
}
