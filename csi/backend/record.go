package backend

import (
	"errors"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// record is the record of a volume.
type record struct{ ondisk.Record }

// ErrRecord reports that a record cannot be read: the volume is left alone.
var ErrRecord = ondisk.ErrRecord

func (c CreateRequest) record(now time.Time) record {
	r := record{ondisk.Record{
		Version: ondisk.Version, Request: c.Request, Size: c.Size, Reclaim: string(c.Reclaim),
		Created: now.UTC().Truncate(time.Second),
	}}
	r.FileSystem, r.FormatOptions, r.Source, r.Shared = c.FileSystem, c.FormatOptions, c.Source, c.Shared
	if c.Overcommit > 1 {
		r.Overcommit = c.Overcommit
	}
	return r
}

func (r record) reclaim() schema.Reclaim { return schema.Reclaim(r.Reclaim) }

func (r record) volume(name string) Volume {
	return Volume{
		Name: name, Request: r.Request, Size: r.Size, Reclaim: r.reclaim(), Created: r.Created,
		Overcommit: max(1, r.Overcommit),
		FileSystem: r.FileSystem, FormatOptions: r.FormatOptions, Source: r.Source, Shared: r.Shared,
	}
}

// grow raises the size and reports whether that changed it.
func (r *record) grow(size int64) bool {
	grows := size > r.Size
	r.Size = max(r.Size, size)
	return grows
}

// setReclaim sets the reclaim policy and reports whether that changed it.
func (r *record) setReclaim(after schema.Reclaim) bool {
	differs := r.reclaim() != after
	r.Reclaim = string(after)
	return differs
}

// attributes are the xattrs of an open file or directory.
type attributes interface {
	Attribute(name string) ([]byte, error)
	NewAttribute(name string, value []byte) error
	ReplaceAttribute(name string, value []byte) error
	SetAttribute(name string, value []byte) error
}

// clock returns the time.
type clock func() time.Time

func (c clock) now() time.Time {
	if c == nil {
		return time.Now()
	}
	return c()
}

// read reads the record of a file or directory; ErrNotFound when it has none.
func read(e attributes) (record, error) {
	text, err := e.Attribute(ondisk.Attribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return record{}, ErrNotFound
	}
	if err != nil {
		return record{}, err
	}
	r, err := ondisk.Decode(text)
	return record{r}, err
}

// create sets the first record of a file or directory; fs.ErrExist when it has one.
func (r record) create(e attributes) error {
	text, err := r.Encode()
	if err != nil {
		return err
	}
	return e.NewAttribute(ondisk.Attribute, text)
}

// replace sets the record of a file or directory that has one.
func (r record) replace(e attributes) error {
	text, err := r.Encode()
	if err != nil {
		return err
	}
	return e.ReplaceAttribute(ondisk.Attribute, text)
}

// rewrite sets the record of a file or directory on all sets of its pool. create and replace,
// which check for an existing record, skip sets that the directory was created on later.
func (r record) rewrite(e attributes) error {
	text, err := r.Encode()
	if err != nil {
		return err
	}
	return e.SetAttribute(ondisk.Attribute, text)
}
