// Package catalog defines what the CSI driver knows of a pool: an entry that the renderer
// writes into a ConfigMap, together with the pool's client volfiles. The driver needs
// nothing else.
package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/atoll-storage/atoll/schema"
)

// Label marks the ConfigMaps that have catalog entries; its value is LabelValue.
const (
	Label      = "atoll.storage/catalog"
	LabelValue = "pool"
	// LabelPool is on every object of a pool; its value is the pool's name.
	LabelPool = "atoll.storage/pool"
)

// Keys of a catalog entry's ConfigMap.
const (
	KeyEntry  = "pool.json"  // the Entry
	KeyFiles  = "files.vol"  // client graph for Subdirectory and Single; native pools
	KeyBlocks = "blocks.vol" // client graph for Block; native pools that serve it
)

// Version is the version of Entry that Encode writes and Decode reads.
const Version = 1

// Entry is one pool as the driver sees it.
type Entry struct {
	Version   int               `json:"version"`
	Pool      string            `json:"pool"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels,omitempty"` // for classes that select pools
	Type      schema.Type       `json:"type"`
	Layouts   []schema.Layout   `json:"layouts"`
	Reclaim   schema.Reclaim    `json:"reclaim"`
	Recovery  schema.Recovery   `json:"recovery,omitempty"` // "" is the default

	// Native pools.
	VolumeID string  `json:"volumeID,omitempty"`
	SetSize  int     `json:"setSize,omitempty"` // consecutive bricks of one set
	Data     int     `json:"data,omitempty"`    // Spec.DataBricks
	Bricks   []Brick `json:"bricks,omitempty"`

	// External pools.
	External *schema.ExternalSpec `json:"external,omitempty"`
}

// Brick is one brick; its position in Entry.Bricks is its identity.
type Brick struct {
	Host           string `json:"host"`
	Port           int    `json:"port"`
	Directory      string `json:"directory"`
	Agent          int    `json:"agent,omitempty"` // port of the brick's agent; 0 means none
	Node           string `json:"node,omitempty"`
	Claim          string `json:"claim,omitempty"`
	Decommissioned bool   `json:"decommissioned,omitempty"`
}

// ErrEntry is wrapped by every error of Decode.
var ErrEntry = errors.New("decode catalog entry")

// Encode encodes an entry. Equal entries have equal encodings.
func Encode(e Entry) ([]byte, error) {
	e.Version = Version
	out, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode catalog entry of pool %s: %w", e.Pool, err)
	}
	return append(out, '\n'), nil
}

// Decode decodes an entry. It refuses unknown fields and versions: a driver that ignored
// them could write to the wrong place.
func Decode(data []byte) (Entry, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var e Entry
	if err := d.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Entry{}, fmt.Errorf("%w: data after the entry", ErrEntry)
	}
	if e.Version != Version {
		return Entry{}, fmt.Errorf("%w: version %d, not %d; upgrade the older of renderer and driver",
			ErrEntry, e.Version, Version)
	}
	return e, e.check()
}

func (e Entry) check() error {
	switch {
	case e.Pool == "" || e.Namespace == "":
		return fmt.Errorf("%w: pool or namespace is missing", ErrEntry)
	case len(e.Layouts) == 0:
		return fmt.Errorf("%w: pool %s has no layouts", ErrEntry, e.Pool)
	case e.Type == schema.External && (e.External == nil || len(e.External.Hosts) == 0 || e.External.Volume == ""):
		return fmt.Errorf("%w: External pool %s has no hosts or no volume", ErrEntry, e.Pool)
	case e.Type != schema.External && (e.SetSize < 1 || len(e.Bricks) == 0 || len(e.Bricks)%e.SetSize != 0):
		return fmt.Errorf("%w: pool %s has %d bricks in sets of %d", ErrEntry, e.Pool, len(e.Bricks), e.SetSize)
	}
	return nil
}
