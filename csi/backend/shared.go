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

// share is take for a volume that several nodes may have. Who has it reads what others have
// written as soon as that was answered, as from a disk that is shared, so nothing may wait in
// a client (write-behind): the file is opened for writing through (O_DSYNC), which no
// option of a pool turns off.
func (b Block) share(f *os.File, r record, name string) (*LockedVolume, error) {
	fd, err := unix.Open(safepath.Of(f).Path(), unix.O_RDWR|unix.O_DSYNC|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening volume %s for writing through: %w", name, err)
	}
	through := os.NewFile(uintptr(fd), f.Name())
	t := &LockedVolume{File: through, Volume: r.volume(name)}
	if err = t.Lock(); errors.Is(err, ofd.ErrHeld) {
		err = fmt.Errorf("%w: %s", ErrInUse, b.who(f, name))
	}
	if err == nil {
		err = b.stillThere(through, name)
	}
	if err == nil {
		err = extend(through, r)
	}
	if err != nil {
		return nil, errors.Join(err, through.Close())
	}
	return t, f.Close()
}

// Lock takes the lock again, of the kind that the volume has.
func (t *LockedVolume) Lock() error {
	if t.Volume.Shared {
		return ofd.LockShared(t.File)
	}
	return ofd.Lock(t.File)
}

// attribute is where it stands who has the volume.
func (t *LockedVolume) attribute() string {
	if t.Volume.Shared {
		return ondisk.HolderAttribute(t.now.Node)
	}
	return ondisk.AttachmentAttribute
}

// Leave takes away the note that this node has a shared volume, which is its own to take
// away also when its lock is lost. Of other volumes it changes nothing.
func (t *LockedVolume) Leave() error {
	if !t.Volume.Shared {
		return nil
	}
	return safepath.Of(t.File).RemoveAttribute(t.attribute())
}

// leave is Leave for a node that has its lock, just before it gives it up. Who is the last
// takes away what nodes have left that did not come back: it asks for the lock of one alone,
// which nobody gets while others have theirs. GlusterFS may let go of the shared lock when it
// refuses that.
func (t *LockedVolume) leave() error {
	if err := t.Leave(); err != nil {
		return err
	}
	if err := ofd.Lock(t.File); errors.Is(err, ofd.ErrHeld) {
		return nil
	} else if err != nil {
		return err
	}
	e := safepath.Of(t.File)
	left, err := e.Attributes(ondisk.HolderPrefix)
	for _, name := range left {
		err = errors.Join(err, e.RemoveAttribute(name))
	}
	return err
}

// Holders are the nodes that have a shared volume, or had it and have not given it back.
type Holders []ondisk.Attachment

// String names them.
func (h Holders) String() string {
	if len(h) == 1 {
		return "node " + h[0].Node
	}
	return "nodes " + strings.Join(h.Nodes(), ", ")
}

// Nodes are their names, sorted.
func (h Holders) Nodes() []string {
	var names []string
	for _, a := range h {
		names = append(names, a.Node)
	}
	slices.Sort(names)
	return names
}

// Holders tells who has a shared volume; of others, nobody.
func (b Block) Holders(name string) (Holders, error) {
	e, _, err := b.look(name)
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
			continue // it was given back
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
