package backend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/beneath"
	"github.com/atoll-storage/atoll/schema"
)

// recordAttribute holds a volume's record. It is a trusted attribute: a tenant who
// is root in a container can change user attributes of the volume's folder, but
// not these.
const recordAttribute = "trusted.atoll.volume"

// record is what is written, in JSON.
type record struct {
	Version int            `json:"v"`
	Request string         `json:"request"`
	Size    int64          `json:"size"`
	Reclaim schema.Reclaim `json:"reclaim"`
	Created time.Time      `json:"created"`
	// Overcommit is absent where it is 1.
	Overcommit float64 `json:"overcommit,omitempty"`
}

const recordVersion = 1

// ErrRecord says that a record cannot be read: nothing is done with the volume.
var ErrRecord = errors.New("the volume's record cannot be read")

func (c Claim) record(now time.Time) record {
	r := record{Version: recordVersion, Request: c.Request, Size: c.Size, Reclaim: c.Reclaim, Created: now.UTC().Truncate(time.Second)}
	if c.Overcommit > 1 {
		r.Overcommit = c.Overcommit
	}
	return r
}

func (r record) volume(name string) Volume {
	return Volume{Name: name, Request: r.Request, Size: r.Size, Reclaim: r.Reclaim, Created: r.Created, Overcommit: max(1, r.Overcommit)}
}

// grow raises the size, and reports whether that changed it.
func (r *record) grow(size int64) bool {
	grows := size > r.Size
	r.Size = max(r.Size, size)
	return grows
}

// keep sets what becomes of the data, and reports whether that changed it.
func (r *record) keep(after schema.Reclaim) bool {
	differs := r.Reclaim != after
	r.Reclaim = after
	return differs
}

// clock tells the time.
type clock func() time.Time

func (c clock) now() time.Time {
	if c == nil {
		return time.Now()
	}
	return c()
}

// read reads the record of a folder; ErrNotFound when it has none.
func read(d *beneath.Dir) (record, error) {
	text, err := d.Attribute(recordAttribute)
	if errors.Is(err, beneath.ErrNoAttribute) {
		return record{}, ErrNotFound
	}
	if err != nil {
		return record{}, err
	}
	return decode(text)
}

// decode is strict: a record of a newer program is not guessed at.
func decode(text []byte) (record, error) {
	var r record
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%w: there is something after it", ErrRecord)
	}
	if r.Version != recordVersion || r.Size < 0 {
		return r, fmt.Errorf("%w: version %d, size %d; was it written by a newer program?", ErrRecord, r.Version, r.Size)
	}
	return r, nil
}

// create sets the first record of a folder; fs.ErrExist when it has one.
func (r record) create(d *beneath.Dir) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return d.NewAttribute(recordAttribute, text)
}

// replace sets the record of a folder that has one.
func (r record) replace(d *beneath.Dir) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return d.ReplaceAttribute(recordAttribute, text)
}
