// Package volumeid is the one codec of volume IDs. An ID names a pool, a layout
// and a volume in it, and every byte of it is checked: what comes over the CSI
// socket may be hostile, and a path is made of it.
package volumeid

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// ID is a volume. Its text is v1.<layout>.<pool>.<name>, at most 128 bytes, which
// is the limit of the CSI specification.
type ID struct {
	Pool   string
	Layout schema.Layout
	Name   string // safe as one component of a path
}

// version is the first part of an ID's text.
const version = "v1"

// MaxLength is the longest ID of the CSI specification, in bytes.
const MaxLength = 128

// ErrInvalid is wrapped by every error of Parse and Check.
var ErrInvalid = errors.New("this is not a volume ID of Atoll")

// part is what pools and volumes may be called: no dot, so that nothing but the
// codec's own dots separates, and no component is ever "", "." or "..".
var part = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// IsPart reports whether a name can be a part of an ID, and so of a path.
func IsPart(name string) bool { return part.MatchString(name) }

// layouts are the words for layouts in an ID.
var layouts = map[schema.Layout]string{
	schema.Subdirectory: "dir",
	schema.Single:       "single",
	schema.Block:        "block",
}

// String writes the ID.
func (id ID) String() string {
	return strings.Join([]string{version, layouts[id.Layout], id.Pool, id.Name}, ".")
}

// Check reports whether the ID can be written and read back.
func (id ID) Check() error {
	switch {
	case layouts[id.Layout] == "":
		return fmt.Errorf("%w: %q is no layout", ErrInvalid, id.Layout)
	case !part.MatchString(id.Pool):
		return fmt.Errorf("%w: %q is no name of a pool", ErrInvalid, id.Pool)
	case !part.MatchString(id.Name):
		return fmt.Errorf("%w: %q is no name of a volume", ErrInvalid, id.Name)
	case len(id.String()) > MaxLength:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, MaxLength)
	}
	return nil
}

// Parse reads an ID. What it accepts is exactly what String writes.
func Parse(text string) (ID, error) {
	if len(text) > MaxLength {
		return ID{}, fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, MaxLength)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 4 || parts[0] != version {
		return ID{}, fmt.Errorf("%w: %q; it looks like v1.dir.pool.name", ErrInvalid, text)
	}
	id := ID{Pool: parts[2], Name: parts[3]}
	for layout, word := range layouts {
		if word == parts[1] {
			id.Layout = layout
		}
	}
	if err := id.Check(); err != nil {
		return ID{}, err
	}
	return id, nil
}

// Snapshot is a snapshot of a volume of blocks. Its text is v1.snapshot.<pool>.<name>.
type Snapshot struct {
	Pool string
	Name string // safe as one component of a path
}

// snapshotWord stands in a snapshot's ID where a volume's has its layout.
const snapshotWord = "snapshot"

// String writes the ID.
func (s Snapshot) String() string {
	return strings.Join([]string{version, snapshotWord, s.Pool, s.Name}, ".")
}

// ParseSnapshot reads a snapshot's ID. What it accepts is exactly what String writes.
func ParseSnapshot(text string) (Snapshot, error) {
	parts := strings.Split(text, ".")
	if len(text) > MaxLength || len(parts) != 4 || parts[0] != version || parts[1] != snapshotWord || !part.MatchString(parts[2]) || !part.MatchString(parts[3]) {
		return Snapshot{}, fmt.Errorf("%w, and not of a snapshot: %q; it looks like v1.snapshot.pool.name", ErrInvalid, text)
	}
	return Snapshot{parts[2], parts[3]}, nil
}

// Name gives a volume's name for the name of a request: the same one where that
// is safe, else a digest of it. Different requests get different names.
func Name(request string) string {
	if part.MatchString(request) && !strings.HasPrefix(request, digestPrefix) {
		return request
	}
	sum := sha256.Sum256([]byte(request))
	return digestPrefix + hex.EncodeToString(sum[:20])
}

// digestPrefix marks names that are digests; no other name may begin with it.
const digestPrefix = "x-"
