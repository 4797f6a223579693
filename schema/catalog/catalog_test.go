package catalog

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/schema"
)

func TestRoundTrip(t *testing.T) {
	want := Entry{
		Version: Version, Pool: "p", Namespace: "n", Type: schema.Replica1, Layouts: []schema.Layout{schema.Block},
		Reclaim:  schema.ReclaimDelete,
		VolumeID: "64220cb5-c301-41b1-b4f1-e5756b3171dc", SetSize: 1, Data: 1,
		Bricks: []Brick{{Host: "h", Port: 24007, Directory: "/b", Node: "kube1"}},
	}
	data, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("decoded %+v, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	const native = `"version":1,"pool":"p","namespace":"n",` +
		`"layouts":["Block"],"type":"Replica1","setSize":1,"bricks":[{}]`
	for name, text := range map[string]string{
		"empty":         ``,
		"unknown field": `{` + native + `,"extra":1}`,
		"other version": `{` + strings.Replace(native, `"version":1`, `"version":2`, 1) + `}`,
		"no name":       `{` + strings.Replace(native, `"pool":"p",`, ``, 1) + `}`,
		"no layouts":    `{` + strings.Replace(native, `"layouts":["Block"],`, ``, 1) + `}`,
		"part of a set": `{` + strings.Replace(native, `"setSize":1`, `"setSize":2`, 1) + `}`,
		"no volume": `{"version":1,"pool":"p","namespace":"n","layouts":["Single"],"type":"External",` +
			`"external":{"hosts":["h"],"volume":""}}`,
		"two entries": `{` + native + `} {}`,
	} {
		if e, err := Decode([]byte(text)); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: accepted as %+v, %v", name, e, err)
		}
	}
	if _, err := Decode([]byte(`{` + native + `}`)); err != nil {
		t.Errorf("the unchanged entry: %v", err)
	}
}
