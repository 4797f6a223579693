package catalog

import (
	"errors"
	"slices"
	"testing"

	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// TestBrokenPoolAffectsOnlyItself: other pools can be read.
func TestBrokenPoolAffectsOnlyItself(t *testing.T) {
	f := Folder{t.TempDir()}
	text, err := entry.Encode(entry.Entry{
		Pool: "good", Namespace: "n", Type: schema.Replica1, Layouts: []schema.Layout{schema.Subdirectory},
		SetSize: 1, Bricks: []entry.Brick{{Host: "h"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]map[string]string{
		"good":  {entry.KeyEntry: string(text), entry.KeyFiles: "volume x"},
		"bad":   {entry.KeyEntry: "{"},
		"other": {entry.KeyEntry: string(text)},
		"empty": {},
	} {
		if _, err := f.Write(name, data); err != nil {
			t.Fatal(err)
		}
	}
	p, err := f.Pool("good")
	if err != nil || p.Files != "volume x" || p.Bricks[0].Host != "h" {
		t.Errorf("%+v, %v", p, err)
	}
	for name, want := range map[string]error{
		"bad": ErrBroken, "other": ErrBroken, "empty": ErrNoPool,
		"none": ErrNoPool, "../good": ErrNoPool, "": ErrNoPool, "Good": ErrNoPool,
	} {
		if _, err := f.Pool(name); !errors.Is(err, want) {
			t.Errorf("pool %q: %v", name, err)
		}
	}
	if names, err := f.Names(); err != nil || !slices.Equal(names, []string{"bad", "empty", "good", "other"}) {
		t.Errorf("names %v, %v", names, err)
	}
	if err := f.Remove("good"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Pool("good"); !errors.Is(err, ErrNoPool) {
		t.Errorf("after its removal: %v", err)
	}
}
