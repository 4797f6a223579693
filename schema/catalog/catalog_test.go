package catalog

import (
	"errors"
	"reflect"
	"testing"

	"github.com/atoll-storage/atoll/schema"
)

func TestRoundTrip(t *testing.T) {
	want := Entry{
		Version: Version, Pool: "p", Namespace: "n", Type: schema.Replica1, Layouts: []schema.Layout{schema.Block}, Reclaim: schema.ReclaimDelete,
		VolumeID: "64220cb5-c301-41b1-b4f1-e5756b3171dc", SetSize: 1, Data: 1, Bricks: []Brick{{Host: "h", Port: 24007, Directory: "/b", Node: "kube1"}},
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
	for name, text := range map[string]string{
		"empty":         ``,
		"unknown field": `{"version":1,"pool":"p","namespace":"n","layouts":["Block"],"type":"Replica1","setSize":1,"bricks":[{}],"extra":1}`,
		"other version": `{"version":2,"pool":"p","namespace":"n","layouts":["Block"],"type":"Replica1","setSize":1,"bricks":[{}]}`,
		"no name":       `{"version":1,"namespace":"n","layouts":["Block"],"type":"Replica1","setSize":1,"bricks":[{}]}`,
		"no layouts":    `{"version":1,"pool":"p","namespace":"n","type":"Replica1","setSize":1,"bricks":[{}]}`,
		"part of a set": `{"version":1,"pool":"p","namespace":"n","layouts":["Block"],"type":"Replica2","setSize":2,"bricks":[{}]}`,
		"no volume":     `{"version":1,"pool":"p","namespace":"n","layouts":["Single"],"type":"External","external":{"hosts":["h"],"volume":""}}`,
		"two entries":   `{"version":1,"pool":"p","namespace":"n","layouts":["Block"],"type":"Replica1","setSize":1,"bricks":[{}]} {}`,
	} {
		if e, err := Decode([]byte(text)); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: accepted as %+v, %v", name, e, err)
		}
	}
}
