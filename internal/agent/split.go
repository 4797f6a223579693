package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// PathPending lists a brick's pending counters (POST PendingRequest), PathForgive clears some
// of them (POST ClearPendingRequest).
const (
	PathPending = "/v1/pending"
	PathForgive = "/v1/forgive"
)

// Counter names a counter of GlusterFS' pending attributes: the aspect of a file or directory
// on which bricks disagree.
type Counter string

// Counters, in the order of the attributes. The third, for the entries of directories, is
// left out: the self-heal daemon merges entries without a decision.
const (
	Data     Counter = "data"
	Metadata Counter = "metadata"
)

// PendingRequest limits the number of listed entries.
type PendingRequest struct {
	Limit int `json:"limit"`
}

// Pending is the content of a brick's index.
type Pending struct {
	Entries []Entry `json:"entries"`
	More    bool    `json:"more"` // there are more than the limit
}

// Entry is a file or directory that a brick considers missing or outdated on others.
type Entry struct {
	ID       string    `json:"id"`             // its GFID
	Path     string    `json:"path,omitempty"` // "" if it cannot be determined
	Size     int64     `json:"sizeBytes"`
	Modified time.Time `json:"modified"`
	Changed  time.Time `json:"changed"`
	// Blames maps the client names of outdated bricks to the counters that are set for them.
	Blames map[string][]Counter `json:"blames"`
}

// ClearPendingRequest requests that a brick clears its counters against another one, for one
// file.
type ClearPendingRequest struct {
	ID       string    `json:"id"`
	Brick    string    `json:"brick"` // client name of the other brick
	Counters []Counter `json:"kinds"`
}

// Split is a file or directory in split-brain: bricks blame each other for it, and it cannot
// be read until one of them is chosen.
type Split struct {
	ID       string           `json:"id"`
	Path     string           `json:"path,omitempty"`
	Counters []Counter        `json:"kinds"`
	Copies   map[string]Entry `json:"has"` // by brick
}

// Splits finds the split-brain entries in the indices of one set's bricks, by client name.
func Splits(pending map[string]Pending) []Split {
	byID := map[string]map[string]Entry{}
	for brick, p := range pending {
		for _, e := range p.Entries {
			if byID[e.ID] == nil {
				byID[e.ID] = map[string]Entry{}
			}
			byID[e.ID][brick] = e
		}
	}
	var all []Split
	for id, has := range byID {
		s := Split{ID: id, Copies: has}
		for _, kind := range []Counter{Data, Metadata} {
			if blameEachOther(has, kind) {
				s.Counters = append(s.Counters, kind)
			}
		}
		for _, e := range has {
			s.Path = cmp.Or(s.Path, e.Path)
		}
		if len(s.Counters) > 0 {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Split) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.ID, b.ID)) })
	return all
}

// blameEachOther reports whether two bricks have a counter set against each other.
func blameEachOther(has map[string]Entry, kind Counter) bool {
	for a, e := range has {
		for b, kinds := range e.Blames {
			if other, is := has[b]; is && slices.Contains(kinds, kind) && slices.Contains(other.Blames[a], kind) {
				return true
			}
		}
	}
	return false
}

// Policy chooses the brick whose copy is kept.
type Policy string

// Policies. KeepBrick is followed by the brick's index.
const (
	KeepLatest Policy = "latest" // last modified
	KeepBigger Policy = "bigger"
	KeepBrick  string = "brick="
)

// Keep returns the client name of the brick whose copy a policy keeps.
func (s Split) Keep(policy Policy) (brick string, err error) {
	if index, is := strings.CutPrefix(string(policy), KeepBrick); is {
		for name := range s.Copies {
			if strings.HasSuffix(name, "-client-"+index) {
				return name, nil
			}
		}
		return "", fmt.Errorf("brick %s has no copy of %s", index, cmp.Or(s.Path, s.ID))
	}
	better := map[Policy]func(a, b Entry) bool{
		KeepLatest: func(a, b Entry) bool { return a.Modified.After(b.Modified) },
		KeepBigger: func(a, b Entry) bool { return a.Size > b.Size },
	}[policy]
	if better == nil {
		return "", fmt.Errorf("unknown policy %q; use latest, bigger, or brick=INDEX", policy)
	}
	for name, e := range s.Copies {
		if brick == "" || better(e, s.Copies[brick]) {
			brick = name
		}
	}
	for name, e := range s.Copies {
		if name != brick && !better(s.Copies[brick], e) {
			return "", fmt.Errorf("policy %q does not choose a copy of %s: they are equal; name one with brick=INDEX",
				policy, cmp.Or(s.Path, s.ID))
		}
	}
	return brick, nil
}
