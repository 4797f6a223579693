// Package ondisk defines the names, xattrs and records on a pool. The driver writes them through
// a mount; bricks read them too.
package ondisk

import (
	"errors"
	"fmt"
	"time"
)

// Attribute has a volume's Record. It is a trusted xattr: a tenant who is root in a container
// can change user xattrs of the volume's directory, but not trusted ones.
const Attribute = "trusted.atoll.volume"

// GlusterDir is the directory of a brick that GlusterFS uses internally. Its content and xattrs
// are local to the brick and are not healed.
const GlusterDir = ".glusterfs"

// FreshAttribute is on GlusterDir of a brick that was created empty, until it is certain that its
// set is new, or until the data of its set is healed to the brick.
const FreshAttribute = "trusted.atoll.fresh"

// JoiningAttribute is on GlusterDir of a brick that was created empty, until it is known whether
// others of its set have data that it lacks. Each creation of a brick has another value.
const JoiningAttribute = "trusted.atoll.joining"

// FoundersAttribute is on GlusterDir of a brick that was among the first of its set: the
// JoiningAttribute values of the others, separated by spaces.
const FoundersAttribute = "trusted.atoll.founders"

// LayoutAttribute is on GlusterDir of a brick: the layout of the pool's last completed
// rebalance, or "moving" during one and after one that was interrupted.
const LayoutAttribute = "trusted.atoll.layout"

// SpreadAttribute is on a pool's root: the number of sets when the records of all volumes were
// last written on all of them. GlusterFS does not copy it to a set that is added later.
const SpreadAttribute = "trusted.atoll.sets"

// Subdirectories is the directory of a pool for Subdirectory volumes, two levels down: xx/yy/name.
const Subdirectories = "subvol"

// Depth is the number of directories above a volume: subvol, xx and yy.
const Depth = 3

// Directories of a pool for block volumes. Volumes and snapshots are files; files in Copies
// become one of them when they are complete.
const (
	Blocks       = "blocks"
	BlockVolumes = Blocks + "/volumes"
	Snapshots    = Blocks + "/snapshots"
	Copies       = Blocks + "/copies"
)

// Version is the version of the records that this program writes and reads.
const Version = 1

// Record is the record of a volume, in JSON.
type Record struct {
	Version int       `json:"v"`
	Request string    `json:"request"`
	Size    int64     `json:"size"` // bytes
	Reclaim string    `json:"reclaim"`
	Created time.Time `json:"created"`
	// Overcommit is absent where it is 1.
	Overcommit float64 `json:"overcommit,omitempty"`
	// FileSystem is the file system of a block volume; absent for raw use and for other volumes.
	// FormatOptions are arguments of its mkfs.
	FileSystem    string `json:"fs,omitempty"`
	FormatOptions string `json:"mkfs,omitempty"`
	// Source is the source that it was copied from: snapshot/NAME or volume/NAME.
	Source string `json:"source,omitempty"`
	// Shared allows several nodes to attach a block volume at once. It never changes.
	Shared bool `json:"shared,omitempty"`
}

// ErrRecord reports that a record cannot be read: the volume is left alone.
var ErrRecord = errors.New("the volume's record cannot be read")

// Decode decodes a record strictly: one of a newer program may not be understood in part.
func Decode(text []byte) (Record, error) {
	var r Record
	if err := decode(text, &r, "the record"); err != nil {
		return r, err
	}
	if r.Version != Version || r.Size < 0 {
		return r, fmt.Errorf("%w: version %d, size %d; was it written by a newer program?", ErrRecord, r.Version,
			r.Size)
	}
	return r, nil
}

// Encode encodes a record.
func (r Record) Encode() ([]byte, error) {
	return encode(r, "a volume's record")
}
