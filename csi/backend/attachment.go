package backend

import (
	"errors"
	"fmt"
	"os"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Attachment returns the attachment of a volume.
func (b Block) Attachment(name string) (ondisk.Attachment, error) {
	e, _, err := b.open(name)
	if err != nil {
		return ondisk.Attachment{}, err
	}
	defer e.Close()
	return attachment(e)
}

func attachment(e attributes) (ondisk.Attachment, error) {
	text, err := e.Attribute(ondisk.AttachmentAttribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return ondisk.Attachment{}, nil
	}
	if err != nil {
		return ondisk.Attachment{}, err
	}
	return ondisk.DecodeAttachment(text)
}

// attachments returns the attachment of a volume, and the names of the nodes that share it.
func attachments(f *os.File) (ondisk.Attachment, []string, error) {
	a, err := attachment(safepath.FromFile(f))
	if err != nil {
		return a, nil, err
	}
	all, err := holders(safepath.FromFile(f))
	return a, all.Nodes(), err
}

// CheckFree checks whether a volume can be attached to a node: ErrInUse while another node has its
// lock. A shared volume can be attached to any node, and has no exclusive attachment.
func (b Block) CheckFree(name, node string) error {
	f, err := b.openRDWR(name)
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := attachment(safepath.FromFile(f))
	if err != nil || a.Node == node || a.Node == "" {
		return err
	}
	locked, err := ofd.Locked(f)
	if err == nil && locked {
		err = fmt.Errorf("%w: %s", ErrInUse, b.lockedBy(f, name))
	}
	return err
}

// lockedBy describes which node has a volume attached, for error messages.
func (b Block) lockedBy(f *os.File, name string) string {
	if all, err := holders(safepath.FromFile(f)); err == nil && len(all) > 0 {
		return fmt.Sprintf("%s is attached to %s", name, all)
	}
	a, err := attachment(safepath.FromFile(f))
	if err != nil || a.Node == "" {
		return name
	}
	return fmt.Sprintf("%s is attached to node %s since %s", name, a.Node, a.Since.Format("2006-01-02 15:04:05 MST"))
}
