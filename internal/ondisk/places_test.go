package ondisk

import (
	"errors"
	"fmt"
	"testing"
)

// TestPlaces: a brick's last address is kept, and those that were replaced are found.
func TestPlaces(t *testing.T) {
	var p Places
	for i, step := range []struct {
		seen Place
		want bool
	}{
		{Place{"1", "", "10.0.0.1"}, false}, // a version without incarnations
		{Place{"1", "a", ""}, false},
		{Place{"1", "a", "10.0.0.1"}, true},
		{Place{"1", "a", "10.0.0.1"}, false},
		{Place{"2", "b", "10.0.0.2"}, true},
		{Place{"1", "a", "10.0.0.3"}, true}, // its pod was restarted
		{Place{"1", "c", "10.0.0.4"}, true},
	} {
		if got := p.Note(step.seen); got != step.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
	former := p.Former(Members{"1": {ID: "c"}, "2": {ID: "b"}})
	if len(former) != 1 || former[0] != (Place{"1", "a", "10.0.0.3"}) {
		t.Errorf("former: %v", former)
	}
	text, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := DecodePlaces(text); err != nil || fmt.Sprint(again) != fmt.Sprint(p) {
		t.Errorf("%s decodes to %v, %v", text, again, err)
	}
	if !p.Forget("a") || p.Forget("a") || len(p) != 2 {
		t.Errorf("after forgetting: %v", p)
	}
	for i := range 1000 {
		p.Note(Place{"1", fmt.Sprintf("%036d", i), "10.100.100.100"})
	}
	if text, err = p.Encode(); err != nil || len(text) > 2048 || p[len(p)-1].ID != fmt.Sprintf("%036d", 999) {
		t.Errorf("%d bytes after 1000 bricks, %v", len(text), err)
	}
	for _, bad := range []string{"", "{}", `["1 a"]`, `["1 a 10.0.0.1 x"]`} {
		if _, err := DecodePlaces([]byte(bad)); !errors.Is(err, ErrRecord) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}
