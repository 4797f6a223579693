package agent

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/volume"
)

// pendingAttribute, with the name of another brick in the pool's graphs, is on what that
// brick lacks: three counters, for data, metadata and entries (GlusterFS 10,
// cluster/replicate).
const pendingAttribute = "trusted.afr."

const pendingSize = 12 // bytes

// rootID is the GFID of the root of every volume, by which the index names it.
const rootID = "00000000-0000-0000-0000-000000000001"

// accuse notes that another brick, which was made empty and serves nobody yet, lacks the
// root's metadata and entries. Clients do not read it there then, and the self-heal
// daemon, which finds it in the index, brings what is below as well.
func (h *Healer) accuse(brick string) error {
	if h.accuses(brick) {
		return nil
	}
	if err := h.list(); err != nil {
		return fmt.Errorf("noting the root in the brick's index: %w", err)
	}
	var pending []byte
	for _, n := range []uint32{0, 1, 1} {
		pending = binary.BigEndian.AppendUint32(pending, n)
	}
	if err := unix.Setxattr(h.Directory, pendingAttribute+brick, pending, 0); err != nil {
		return fmt.Errorf("noting what %s lacks: %w", brick, err)
	}
	h.Log.Info("another brick is new and lacks what this one has", "brick", brick)
	return nil
}

// list puts the root into the brick's index, and all that is in it into the list by which
// a folder's entries are healed. The index xlator makes links to one file there; it takes
// any file for an entry.
func (h *Healer) list() error {
	root, err := os.OpenRoot(h.Directory)
	if err != nil {
		return err
	}
	defer root.Close()
	const changed = indices + "/entry-changes/" + rootID
	if err := root.MkdirAll(changed, 0o700); err != nil {
		return err
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	entries := []string{indices + "/xattrop/" + rootID}
	for _, name := range names {
		if name != volume.Own {
			entries = append(entries, changed+"/"+name)
		}
	}
	for _, entry := range entries {
		f, err := root.OpenFile(entry, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// accuses tells whether the root has it that another brick lacks its entries.
func (h *Healer) accuses(brick string) bool {
	value := make([]byte, pendingSize)
	n, err := unix.Getxattr(h.Directory, pendingAttribute+brick, value)
	return err == nil && n == pendingSize && binary.BigEndian.Uint32(value[8:]) > 0
}

// lacking lists the other bricks of the set that this one accuses.
func (h *Healer) lacking() []string {
	_, others, err := h.set()
	if err != nil {
		return nil // look says so
	}
	var names []string
	for _, b := range others {
		if h.accuses(b.Name) {
			names = append(names, b.Name)
		}
	}
	return names
}
