package backend

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// LockedVolume is a volume's file with its lock: no other node can write to it, and a node that
// had it attached before no longer can. A shared volume has a shared lock, which other nodes
// may have too.
type LockedVolume struct {
	File     *os.File
	Volume   Volume
	Previous ondisk.Attachment // as it was found

	attached ondisk.Attachment // as it was written last
}

// Lock opens a volume's file and locks it, with a shared lock if its record says that it is
// shared. ErrInUse while a node has an incompatible lock.
func (b Block) Lock(name string) (*LockedVolume, error) {
	f, err := b.openRDWR(name)
	if err != nil {
		return nil, err
	}
	v, err := b.lock(f, name)
	if err != nil {
		f.Close()
		return nil, err
	}
	return v, nil
}

func (b Block) lock(f *os.File, name string) (*LockedVolume, error) {
	r, err := read(safepath.FromFile(f))
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	if r.Shared {
		return b.lockShared(f, r, name)
	}
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, b.lockedBy(f, name))
	} else if err != nil {
		return nil, err
	}
	if err := b.checkExists(f, name); err != nil {
		return nil, err
	}
	previous, err := attachment(safepath.FromFile(f))
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	return &LockedVolume{File: f, Volume: r.volume(name), Previous: previous, attached: previous}, extend(f, r)
}

// checkExists checks that a locked file is still the volume's: deleting a volume locks it too,
// and may have happened between opening and locking. ErrNotFound.
func (b Block) checkExists(f *os.File, name string) error {
	same, err := b.isAt(f, b.Place(name))
	if err == nil && !same {
		err = fmt.Errorf("%w: %s was deleted while it was locked", ErrNotFound, name)
	}
	return err
}

// Attach records that the volume is attached to a node.
func (v *LockedVolume) Attach(node, boot string, now clock) error {
	v.attached.Epoch = v.Previous.Epoch + 1
	v.attached.Node, v.attached.Boot, v.attached.Since = node, boot, now.now().UTC()
	return v.writeAttachment()
}

// MarkFormatted records that a file system is on the volume, completely.
func (v *LockedVolume) MarkFormatted(fileSystem string) error {
	v.attached.Formatted = fileSystem
	return v.writeAttachment()
}

// Detach records that the volume is not attached; of a shared volume, not to this node.
func (v *LockedVolume) Detach() error {
	if v.Volume.Shared {
		return v.removeHolders()
	}
	v.attached.Node, v.attached.Boot, v.attached.Since = "", "", time.Time{}
	return v.writeAttachment()
}

// Attachment returns what was recorded last.
func (v *LockedVolume) Attachment() ondisk.Attachment { return v.attached }

func (v *LockedVolume) writeAttachment() error {
	text, err := v.attached.Encode()
	if err == nil {
		err = safepath.FromFile(v.File).SetAttribute(v.attribute(), text)
	}
	if err != nil {
		return fmt.Errorf("record the attachment of volume %s: %w", v.Volume.Name, err)
	}
	return nil
}

// Extend extends the file to the size that is in the record now.
func (v *LockedVolume) Extend() error {
	r, err := read(safepath.FromFile(v.File))
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Volume.Name, err)
	}
	v.Volume = r.volume(v.Volume.Name)
	return extend(v.File, r)
}

// Reacquire locks the file again, with the kind of lock that the volume has.
func (v *LockedVolume) Reacquire() error {
	if v.Volume.Shared {
		return ofd.LockShared(v.File)
	}
	return ofd.Lock(v.File)
}

// Close unlocks and closes the file. The lock is free when it returns; by closing alone it would
// be free only when the kernel has released the file of a former device.
func (v *LockedVolume) Close() error { return errors.Join(ofd.Unlock(v.File), v.File.Close()) }
