// Package ondisk is what is written on a volume of a pool: by the driver, through a
// mount, and read on the bricks too, where every brick with the volume has it.
package ondisk

import (
	"errors"
	"fmt"
	"time"
)

// Attribute holds a volume's record. It is a trusted attribute: a tenant who is root
// in a container can change user attributes of the volume's folder, but not these.
const Attribute = "trusted.atoll.volume"

// GlusterDir is the folder of a brick that GlusterFS keeps to itself: what is on and in it is
// this brick's alone, and is not healed.
const GlusterDir = ".glusterfs"

// FreshAttribute is on Own of a brick that was made empty, until what its set has is on
// the brick.
const FreshAttribute = "trusted.atoll.fresh"

// JoiningAttribute is on Own of a brick that was made empty, until it is known whether
// others of its set have what it lacks. Its value is of this one making of the brick.
const JoiningAttribute = "trusted.atoll.joining"

// FoundersAttribute is on Own of a brick that was among the first of its set: the values
// of JoiningAttribute of the others, with spaces between.
const FoundersAttribute = "trusted.atoll.founders"

// LayoutAttribute is on Own of a brick: how the files of the pool were spread over its
// sets when that was last completed.
const LayoutAttribute = "trusted.atoll.layout"

// SpreadAttribute is on a pool's root: how many sets it had when last the records of all
// volumes were on all of them. GlusterFS does not bring it to a set that is added later.
const SpreadAttribute = "trusted.atoll.sets"

// Folder is the folder of a pool below which volumes are, two levels down: xx/yy/name.
const Folder = "subvol"

// Depth is how many folders above a volume are its pool's: subvol, xx and yy.
const Depth = 3

// Blocks is the folder of a pool for volumes of blocks. They are files, below
// BlockVolumes; their snapshots are below Snapshots, and what becomes one of either in Copies.
const (
	Blocks       = "blocks"
	BlockVolumes = Blocks + "/volumes"
	Snapshots    = Blocks + "/snapshots"
	Copies       = Blocks + "/copies"
)

// Version is that of the records that this program writes and reads.
const Version = 1

// Record is what is written, in JSON.
type Record struct {
	Version int       `json:"v"`
	Request string    `json:"request"`
	Size    int64     `json:"size"` // bytes
	Reclaim string    `json:"reclaim"`
	Created time.Time `json:"created"`
	// Overcommit is absent where it is 1.
	Overcommit float64 `json:"overcommit,omitempty"`
	// FileSystem is what is to be on a block volume; absent where that is nobody's
	// business but the tenant's, and from other volumes. FormatOptions are its mkfs's.
	FileSystem    string `json:"fs,omitempty"`
	FormatOptions string `json:"mkfs,omitempty"`
	// Source is what its first content is a copy of: snapshot/NAME or volume/NAME.
	Source string `json:"source,omitempty"`
	// Shared lets several nodes have a block volume at once. It never changes.
	Shared bool `json:"shared,omitempty"`
}

// ErrRecord says that a record cannot be read: nothing is done with the volume.
var ErrRecord = errors.New("the volume's record cannot be read")

// Decode is strict: a record of a newer program is not guessed at.
func Decode(text []byte) (Record, error) {
	var r Record
	if err := decode(text, &r, "it"); err != nil {
		return r, err
	}
	if r.Version != Version || r.Size < 0 {
		return r, fmt.Errorf("%w: version %d, size %d; was it written by a newer program?", ErrRecord, r.Version, r.Size)
	}
	return r, nil
}

// Encode writes a record.
func (r Record) Encode() ([]byte, error) {
	return encode(r, "a volume's record")
}
