package backend

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// lockShared is lock for a volume that several nodes may attach. A node must read what another
// node has written as soon as that write was acknowledged, as from a shared disk. So nothing may
// wait in a client (write-behind): the file is opened for writing through (O_DSYNC), which no
// option of a pool turns off.
func (b Block) lockShared(f *os.File, r record, name string) (*LockedVolume, error) {
	fd, err := unix.Open(safepath.FromFile(f).Path(), unix.O_RDWR|unix.O_DSYNC|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open volume %s for writing through: %w", name, err)
	}
	through := os.NewFile(uintptr(fd), f.Name())
	v := &LockedVolume{File: through, Volume: r.volume(name)}
	if err = v.Reacquire(); errors.Is(err, ofd.ErrLocked) {
		err = fmt.Errorf("%w: %s", ErrInUse, b.lockedBy(f, name))
	}
	if err == nil {
		err = b.checkExists(through, name)
	}
	if err == nil {
		err = extend(through, r)
	}
	if err != nil {
		return nil, errors.Join(err, through.Close())
	}
	return v, f.Close()
}

// attribute is the xattr that records the attachment to this node.
func (v *LockedVolume) attribute() string {
	if v.Volume.Shared {
		return ondisk.HolderAttribute(v.attached.Node)
	}
	return ondisk.AttachmentAttribute
}

// RemoveHolder removes the record that a shared volume is attached to this node, which only this
// node writes: it may do so after it has lost its lock, too. On other volumes it has no effect.
func (v *LockedVolume) RemoveHolder() error {
	if !v.Volume.Shared {
		return nil
	}
	return safepath.FromFile(v.File).RemoveAttribute(v.attribute())
}

// removeHolders is RemoveHolder for a node that is about to release its lock. The last node also
// removes the records of nodes that did not return: it requests the exclusive lock, which is
// refused while others have theirs. GlusterFS may drop the shared lock when it refuses.
func (v *LockedVolume) removeHolders() error {
	if err := v.RemoveHolder(); err != nil {
		return err
	}
	if err := ofd.Lock(v.File); errors.Is(err, ofd.ErrLocked) {
		return nil
	} else if err != nil {
		return err
	}
	e := safepath.FromFile(v.File)
	left, err := e.Attributes(ondisk.HolderPrefix)
	for _, name := range left {
		err = errors.Join(err, e.RemoveAttribute(name))
	}
	return err
}

// Holders are the nodes that have a shared volume attached, or had it and did not detach it.
type Holders []ondisk.Attachment

// String names the nodes.
func (h Holders) String() string {
	if len(h) == 1 {
		return "node " + h[0].Node
	}
	return "nodes " + strings.Join(h.Nodes(), ", ")
}

// Nodes returns the names of the nodes, sorted.
func (h Holders) Nodes() []string {
	var names []string
	for _, a := range h {
		names = append(names, a.Node)
	}
	slices.Sort(names)
	return names
}

// Holders returns the nodes of a shared volume; none for other volumes.
func (b Block) Holders(name string) (Holders, error) {
	e, _, err := b.open(name)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return holders(e)
}

func holders(e *safepath.Entry) (Holders, error) {
	names, err := e.Attributes(ondisk.HolderPrefix)
	if err != nil {
		return nil, err
	}
	var all Holders
	for _, name := range names {
		text, err := e.Attribute(name)
		if errors.Is(err, safepath.ErrNoAttribute) {
			continue // it was removed just now
		}
		if err != nil {
			return nil, err
		}
		a, err := ondisk.DecodeAttachment(text)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}
