// Package volumeid encodes and decodes volume IDs. An ID names a pool, a layout and a
// volume. Every byte of it is checked: IDs from the CSI socket may be hostile, and the
// driver builds paths from them.
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

// ID identifies a volume. Its text is v1.<layout>.<pool>.<name>, at most MaxLength bytes.
type ID struct {
	Pool   string
	Layout schema.Layout
	Name   string // safe as one component of a path
}

// version is the first part of an ID's text.
const version = "v1"

// MaxLength is the limit of the CSI specification for IDs, in bytes.
const MaxLength = 128

// ErrInvalid is wrapped by every error of Parse and Check.
var ErrInvalid = errors.New("invalid volume ID")

// part matches the names of pools and volumes. They have no dots: only the codec's dots
// separate parts, and no part is "", "." or "..".
var part = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// IsPart reports whether a name can be a part of an ID, and so of a path.
func IsPart(name string) bool { return part.MatchString(name) }

// layouts are the names of layouts in an ID.
var layouts = map[schema.Layout]string{
	schema.Subdirectory: "dir",
	schema.Single:       "single",
	schema.Block:        "block",
}

// String returns the text of the ID.
func (id ID) String() string {
	return strings.Join([]string{version, layouts[id.Layout], id.Pool, id.Name}, ".")
}

// Check returns an error unless Parse accepts the text of the ID.
func (id ID) Check() error {
	switch {
	case layouts[id.Layout] == "":
		return fmt.Errorf("%w: %q is not a layout", ErrInvalid, id.Layout)
	case !part.MatchString(id.Pool):
		return fmt.Errorf("%w: %q is not a pool name", ErrInvalid, id.Pool)
	case !part.MatchString(id.Name):
		return fmt.Errorf("%w: %q is not a volume name", ErrInvalid, id.Name)
	case len(id.String()) > MaxLength:
		return fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxLength)
	}
	return nil
}

// Parse parses an ID. It accepts exactly the texts that String returns.
func Parse(text string) (ID, error) {
	if len(text) > MaxLength {
		return ID{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxLength)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 4 || parts[0] != version {
		return ID{}, fmt.Errorf("%w: %q; the form is v1.dir.pool.name", ErrInvalid, text)
	}
	id := ID{Pool: parts[2], Name: parts[3]}
	for layout, name := range layouts {
		if name == parts[1] {
			id.Layout = layout
		}
	}
	if err := id.Check(); err != nil {
		return ID{}, err
	}
	return id, nil
}

// Snapshot identifies a snapshot of a block volume. Its text is v1.snapshot.<pool>.<name>.
type Snapshot struct {
	Pool string
	Name string // safe as one component of a path
}

// snapshotPart takes the place of the layout in a snapshot's ID.
const snapshotPart = "snapshot"

// String returns the text of the ID.
func (s Snapshot) String() string {
	return strings.Join([]string{version, snapshotPart, s.Pool, s.Name}, ".")
}

// ParseSnapshot parses a snapshot's ID. It accepts exactly the texts that String returns.
func ParseSnapshot(text string) (Snapshot, error) {
	parts := strings.Split(text, ".")
	if len(text) > MaxLength || len(parts) != 4 || parts[0] != version || parts[1] != snapshotPart ||
		!part.MatchString(parts[2]) || !part.MatchString(parts[3]) {
		return Snapshot{}, fmt.Errorf("%w: not a snapshot: %q; the form is v1.snapshot.pool.name", ErrInvalid, text)
	}
	return Snapshot{parts[2], parts[3]}, nil
}

// Name returns the name of the volume for a request's name: the same name if that is safe,
// otherwise a digest of it. Different requests get different names.
func Name(request string) string {
	if part.MatchString(request) && !strings.HasPrefix(request, digestPrefix) {
		return request
	}
	sum := sha256.Sum256([]byte(request))
	return digestPrefix + hex.EncodeToString(sum[:20])
}

// digestPrefix marks names that are digests; Name never returns another name that begins with it.
const digestPrefix = "x-"
