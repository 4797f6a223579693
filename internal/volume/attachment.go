package volume

import (
	"fmt"
	"time"
)

// AttachmentAttribute is on the file of a block volume: who has it. Only who holds the
// file's lock writes it.
const AttachmentAttribute = "trusted.atoll.attachment"

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
