package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
)

// An index of pending heals has an entry for each file that was changed while a brick was down:
// millions. It is read in pieces, and no more of it is kept than is needed.
const (
	// indices is the directory of a brick that lists pending heals, in the index xattrop.
	indices = ondisk.GlusterDir + "/indices"
	// direntsSize is how much of a directory is read at once, in bytes: about a thousand entries.
	direntsSize = 64 << 10
	// maxLowest is how many entries of the index are looked at, to list up to maxPending of them: those
	// without a counter that is listed are left out. They take 16 bytes each.
	maxLowest = 16 * maxPending
)

// Offsets in struct linux_dirent64 (getdents64(2)).
const (
	direntSize = 16 // d_reclen, 16 bits
	direntName = 19 // d_name, ends with a zero byte
)

// eachName calls f with the names in a directory, until the context ends. It needs the same memory
// for a directory of any size. The name is valid during the call.
func eachName(ctx context.Context, d *os.File, f func(name []byte)) error {
	buffer := make([]byte, direntsSize)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Getdents(int(d.Fd()), buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return os.NewSyscallError("getdents64", err)
		}
		for rest := buffer[:n]; len(rest) > direntName; {
			size := binary.NativeEndian.Uint16(rest[direntSize:])
			name, _, _ := bytes.Cut(rest[direntName:size], []byte{0})
			if string(name) != "." && string(name) != ".." {
				f(name)
			}
			rest = rest[size:]
		}
	}
}

// countBacklog counts the entries of an index of pending heals. The base file, of which they
// are all hard links, does not count (features/index of GlusterFS).
func countBacklog(ctx context.Context, directory, index string) (int, error) {
	d, err := os.Open(filepath.Join(directory, indices, index))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	base := []byte(index + "-")
	n := 0
	err = eachName(ctx, d, func(name []byte) {
		if !bytes.HasPrefix(name, base) {
			n++
		}
	})
	if err != nil {
		return 0, fmt.Errorf("count the entries of index %s: %w", index, err)
	}
	return n, nil
}

// backlog is the number of entries of the index xattrop: what other bricks must be healed from.
func (a *Agent) backlog(ctx context.Context) (int, error) {
	return a.probes.xattrop.get(ctx, func(ctx context.Context) (int, error) {
		return countBacklog(ctx, a.Directory, "xattrop")
	})
}

// writing is the number of entries of the index dirty: what is being written.
func (a *Agent) writing(ctx context.Context) (int, error) {
	return a.probes.dirty.get(ctx, func(ctx context.Context) (int, error) {
		return countBacklog(ctx, a.Directory, "dirty")
	})
}

// atLeastPending is the backlog, or a lower bound. Zero is certain: others restart a brick then.
func (a *Agent) atLeastPending(ctx context.Context) int {
	n, err := a.backlog(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0 // no heal was ever pending
	case err != nil:
		return max(1, n)
	}
	return n
}

// lowest are the lowest GFIDs in the index: all bricks list the same ones of many, so that
// what they list can be compared.
type lowest struct {
	ids  []uuid.UUID // in order, once it is complete
	more bool        // there are others
}

// add adds an ID if it may be one of the lowest. It keeps up to twice as many as are wanted, so
// that they are rarely sorted.
func (l *lowest) add(id uuid.UUID) {
	if l.more && compareIDs(id, l.ids[maxLowest-1]) >= 0 {
		return
	}
	if l.ids = append(l.ids, id); len(l.ids) == 2*maxLowest {
		l.sort()
	}
}

// sort puts the IDs in order and drops those that are too many.
func (l *lowest) sort() {
	slices.SortFunc(l.ids, compareIDs)
	l.ids = slices.Compact(l.ids) // an entry that is added again while the directory is read
	if len(l.ids) > maxLowest {
		l.ids, l.more = l.ids[:maxLowest], true
	}
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// lowestPending are the lowest GFIDs in the index xattrop. If reading it takes long, those are
// returned that were the lowest when it was read last: callers do not wait long enough for it.
func (a *Agent) lowestPending(ctx context.Context) (lowest, error) {
	brief, cancel := context.WithTimeout(ctx, walkWait)
	defer cancel()
	l, err := a.readLowest(brief)
	switch {
	case !errors.Is(err, errUnfinished):
		return l, err
	case len(l.ids) > 0:
		return l, nil
	}
	return a.readLowest(ctx)
}

func (a *Agent) readLowest(ctx context.Context) (lowest, error) {
	return a.probes.lowest.get(ctx, func(ctx context.Context) (lowest, error) {
		d, err := os.Open(filepath.Join(a.Directory, indices, "xattrop"))
		if err != nil {
			return lowest{}, err
		}
		defer d.Close()
		var l lowest
		err = eachName(ctx, d, func(name []byte) {
			if id, err := uuid.ParseBytes(name); err == nil {
				l.add(id)
			}
		})
		l.sort()
		return l, err
	})
}
