package ondisk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// AttachmentAttribute is on the file of a block volume: who has it. Only who holds the
// file's lock writes it.
const AttachmentAttribute = "trusted.atoll.attachment"

// HolderPrefix begins the names of attributes on the file of a block volume that several
// nodes may have: there is one for each that has it, and none is AttachmentAttribute.
const HolderPrefix = AttachmentAttribute + "."

// HolderAttribute is the one of a node, which this node alone writes: nobody reads it to
// change it, so nobody's change is lost. Names of nodes may be longer than an attribute's.
func HolderAttribute(node string) string {
	sum := sha256.Sum256([]byte(node))
	return HolderPrefix + hex.EncodeToString(sum[:8])
}

// Attachment is what is written there, in JSON.
type Attachment struct {
	Version int `json:"v"`
	// Epoch counts the times that the volume was attached.
	Epoch int64 `json:"epoch"`
	// Node has the volume; "" is nobody. Boot is what it ran as: /proc/sys/kernel/random/boot_id.
	Node  string    `json:"node,omitempty"`
	Boot  string    `json:"boot,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Formatted is the file system that was made on the volume, completely; "" before.
	Formatted string `json:"formatted,omitempty"`
}

// DecodeAttachment is strict, as Decode is.
func DecodeAttachment(text []byte) (Attachment, error) {
	var a Attachment
	if err := decode(text, &a, "its attachment"); err != nil {
		return a, err
	}
	if a.Version != Version || a.Epoch < 0 {
		return a, fmt.Errorf("%w: its attachment has version %d, epoch %d; was it written by a newer program?", ErrRecord, a.Version, a.Epoch)
	}
	return a, nil
}

// Encode writes an attachment.
func (a Attachment) Encode() ([]byte, error) {
	a.Version = Version
	return encode(a, "who has a volume")
}
