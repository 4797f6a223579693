package prepare

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Set describes the set of a brick that another operator may have written, such as Kadalu. Those
// bricks do not say which position they had. In a wrong one, clients would believe what a brick
// says about itself to be about another, and in a Disperse set they would mix up its parts of
// files.
type Set struct {
	// Positions are the indices of the set's bricks in the pool. Nothing is checked without them.
	Positions []string
	Disperse  bool
	Arbiter   bool // this brick is the set's arbiter
	// Confirmed says that the document's author has compared the order with that of the former
	// operator.
	Confirmed bool
}

// ErrPosition says that a former operator's brick does not seem to be the brick that the document
// names.
var ErrPosition = errors.New("the brick may have had another position")

const (
	// maxExamined is how many entries of a brick are examined, and maxDepth how deep.
	maxExamined = 5000
	maxDepth    = 32
	// leastEmpty is how many files must be empty, and none not, for a brick to seem an arbiter.
	leastEmpty = 20
)

// checkFormer verifies, as far as its files tell, that a former operator's brick had the position
// that the document gives it.
func (b Brick) checkFormer(directory string) error {
	if len(b.Set.Positions) < 2 || b.Set.Confirmed {
		return nil
	}
	root, err := safepath.Open(directory)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	x := examination{prefix: ondisk.PendingAttribute + b.Pool + "-client-", blamed: map[string]bool{}}
	if err := x.examine(root); err != nil {
		return err
	}
	if reason := b.contradiction(x); reason != "" {
		return fmt.Errorf("%w: %s %s; list the bricks in the order of the operator that wrote them (Kadalu: brick_index in its ConfigMap kadalu-info); if it is right as it is, set the pool's annotation %s",
			ErrPosition, b.Directory, reason, confirm)
	}
	return nil
}

// confirm is the annotation that sets Set.Confirmed.
const confirm = "atoll.storage/former-order: confirmed"

// contradiction says why the brick cannot have had its position, or why that is not certain.
func (b Brick) contradiction(x examination) string {
	if b.Set.Disperse && x.entries > 0 {
		return "does not say which part of each file it has, and in a Disperse set a wrong order destroys files"
	}
	for position, lacks := range x.blamed {
		switch {
		case !slices.Contains(b.Set.Positions, position):
			return fmt.Sprintf("has heals pending for brick %s, which is in another set than brick %s", position, b.Position)
		case position == b.Position && lacks:
			return fmt.Sprintf("says that brick %s lacks something: so it is another one", position)
		}
	}
	switch {
	case b.Set.Arbiter && x.withData > 0:
		return fmt.Sprintf("has files with data, but brick %s is the arbiter, whose files are empty", b.Position)
	case !b.Set.Arbiter && x.withData == 0 && x.files >= leastEmpty:
		return fmt.Sprintf("has %d files, and all are empty, as on an arbiter", x.files)
	}
	return ""
}

// examination is what some of a brick's entries tell.
type examination struct {
	prefix string // of xattrs about other bricks

	entries  int             // examined, without directories that GlusterFS keeps for itself
	files    int             // regular files
	withData int             // of files, those that are not empty
	blamed   map[string]bool // positions of bricks with counters, and whether one is not 0
}

// examine looks at the entries with pending heals and at others.
func (x *examination) examine(root *safepath.Dir) error {
	if err := x.counters(&root.Entry); err != nil {
		return err
	}
	if err := x.index(root); err != nil {
		return err
	}
	return x.walk(root, 0)
}

// index examines the entries that wait for heals: they are listed by GFID.
func (x *examination) index(root *safepath.Dir) error {
	names, err := x.names(root, ondisk.GlusterDir+"/indices/xattrop")
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := uuid.Parse(name)
		if err != nil {
			continue
		}
		text := id.String()
		e, err := root.OpenPath(path.Join(ondisk.GlusterDir, text[:2], text[2:4], text))
		if err != nil {
			continue // a stale entry
		}
		err = x.counters(e)
		e.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// names lists a directory, as far as it is examined.
func (x *examination) names(d *safepath.Dir, name string) ([]string, error) {
	f, err := d.OpenDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of the brick: %w", name, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(maxExamined)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s of the brick: %w", name, err)
	}
	return names, nil
}

// walk examines the entries of a directory and below.
func (x *examination) walk(d *safepath.Dir, depth int) error {
	names, err := x.names(d, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		if depth == 0 && name == ondisk.GlusterDir {
			continue
		}
		if x.entries >= maxExamined {
			return nil
		}
		if err := x.entry(d, name, depth); err != nil {
			return err
		}
	}
	return nil
}

func (x *examination) entry(d *safepath.Dir, name string, depth int) error {
	e, err := d.OpenPath(name)
	if err != nil {
		return fmt.Errorf("examine the brick: %w", err)
	}
	defer e.Close()
	info, err := e.File().Stat()
	if err != nil {
		return fmt.Errorf("examine the brick: %w", err)
	}
	x.entries++
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		return nil // it has no counters
	case info.Mode().IsRegular():
		x.file(e, info.Size())
	case info.IsDir() && depth < maxDepth:
		below, err := d.Dir(name)
		if err != nil {
			return fmt.Errorf("examine the brick: %w", err)
		}
		defer below.Close()
		if err := x.walk(below, depth+1); err != nil {
			return err
		}
	}
	return x.counters(e)
}

// file counts a regular file, unless it only says where another is.
func (x *examination) file(e *safepath.Entry, size int64) {
	if _, err := e.Attribute(ondisk.LinkAttribute); err == nil {
		return
	}
	x.files++
	if size > 0 {
		x.withData++
	}
}

// counters notes about which bricks an entry has counters.
func (x *examination) counters(e *safepath.Entry) error {
	names, err := e.Attributes(x.prefix)
	if err != nil {
		return fmt.Errorf("examine the brick: %w", err)
	}
	for _, name := range names {
		value, err := e.Attribute(name)
		if err != nil {
			return fmt.Errorf("examine the brick: %w", err)
		}
		position := strings.TrimPrefix(name, x.prefix)
		lacks := false
		for ; len(value) >= 4; value = value[4:] {
			lacks = lacks || binary.BigEndian.Uint32(value) > 0
		}
		x.blamed[position] = x.blamed[position] || lacks
	}
	return nil
}
