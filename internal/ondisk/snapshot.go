package ondisk

import (
	"fmt"
	"time"
)

// SnapshotAttribute is on the file of a snapshot and has its record.
const SnapshotAttribute = "trusted.atoll.snapshot"

// Snapshot is the record of a snapshot, in JSON.
type Snapshot struct {
	Version int    `json:"v"`
	Request string `json:"request"`
	// Volume is the name of the volume.
	Volume string `json:"volume"`
	Size   int64  `json:"size"` // bytes, of the volume
	// Used is the space that its content used on one brick when it was created, in bytes.
	Used    int64     `json:"used"`
	Created time.Time `json:"created"` // it contains no later writes
	// FileSystem and Formatted are those of the volume.
	FileSystem string `json:"fs,omitempty"`
	Formatted  string `json:"formatted,omitempty"`
}

// DecodeSnapshot is strict, as Decode is.
func DecodeSnapshot(text []byte) (Snapshot, error) {
	var s Snapshot
	if err := decode(text, &s, "the snapshot's record"); err != nil {
		return s, err
	}
	if s.Version != Version || s.Size < 0 || s.Used < 0 {
		return s, fmt.Errorf("%w: a snapshot's record has version %d, size %d; was it written by a newer program?",
			ErrRecord, s.Version, s.Size)
	}
	return s, nil
}

// Encode encodes a snapshot's record.
func (s Snapshot) Encode() ([]byte, error) {
	s.Version = Version
	return encode(s, "a snapshot's record")
}

// CopyAttribute is on the file of a copy in progress.
const CopyAttribute = "trusted.atoll.copy"

// Copy is the note of a copy in progress, in JSON.
type Copy struct {
	Version int `json:"v"`
	// From is the path of the source below the pool's root, Inode its inode number, and Epoch
	// how often it had been attached when the copy began: if one of them differs, the content
	// may differ.
	From  string `json:"from"`
	Inode uint64 `json:"inode"`
	Epoch int64  `json:"epoch"`
	Done  int64  `json:"done"` // bytes from the beginning that are copied and synced
}

// DecodeCopy is strict, as Decode is.
func DecodeCopy(text []byte) (Copy, error) {
	var c Copy
	if err := decode(text, &c, "a copy's note"); err != nil {
		return c, err
	}
	if c.Version != Version || c.Done < 0 {
		return c, fmt.Errorf("%w: the note of a copy has version %d, done %d", ErrRecord, c.Version, c.Done)
	}
	return c, nil
}

// Encode encodes the note.
func (c Copy) Encode() ([]byte, error) {
	c.Version = Version
	return encode(c, "the note of a copy")
}
