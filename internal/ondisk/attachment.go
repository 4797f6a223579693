package ondisk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// AttachmentAttribute is on the file of a block volume and has its Attachment. Only the holder
// of the file's lock writes it.
const AttachmentAttribute = "trusted.atoll.attachment"

// HolderPrefix begins the names of the xattrs on the file of a shared block volume: one for each
// node that has it attached. A shared volume has no AttachmentAttribute.
const HolderPrefix = AttachmentAttribute + "."

// HolderAttribute is the xattr of one node. Only this node writes it, so no change is lost. The
// node's name is hashed because it may be longer than the name of an xattr.
func HolderAttribute(node string) string {
	sum := sha256.Sum256([]byte(node))
	return HolderPrefix + hex.EncodeToString(sum[:8])
}

// Attachment is the value of these xattrs, in JSON.
type Attachment struct {
	Version int `json:"v"`
	// Epoch counts the times that the volume was attached.
	Epoch int64 `json:"epoch"`
	// Node has the volume attached; "" when it is not attached. Boot is the node's
	// /proc/sys/kernel/random/boot_id.
	Node  string    `json:"node,omitempty"`
	Boot  string    `json:"boot,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Formatted is the file system that was created on the volume, completely; "" before.
	Formatted string `json:"formatted,omitempty"`
}

// DecodeAttachment is strict, as Decode is.
func DecodeAttachment(text []byte) (Attachment, error) {
	var a Attachment
	if err := decode(text, &a, "the attachment"); err != nil {
		return a, err
	}
	if a.Version != Version || a.Epoch < 0 {
		return a, fmt.Errorf("%w: an attachment has version %d, epoch %d; was it written by a newer program?",
			ErrRecord, a.Version, a.Epoch)
	}
	return a, nil
}

// Encode writes an attachment.
func (a Attachment) Encode() ([]byte, error) {
	a.Version = Version
	return encode(a, "an attachment")
}
