package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Where an agent lists what its brick holds against others (POST PendingRequest), and
// takes some of it back (POST ForgiveRequest).
const (
	PathPending = "/v1/pending"
	PathForgive = "/v1/forgive"
)

// Counter is what of a file or folder bricks disagree about.
type Counter string

// Kinds, in the order of their counters in GlusterFS's attributes. Entries of folders are
// merged by the self-heal daemon; no brick has to be right about them.
const (
	Data     Counter = "data"
	Metadata Counter = "metadata"
)

// PendingRequest asks for no more than so many.
type PendingRequest struct {
	Limit int `json:"limit"`
}

// Pending is what a brick's index lists.
type Pending struct {
	Entries []Entry `json:"entries"`
	More    bool    `json:"more"` // than were asked for
}

// Entry is a file or folder of which a brick holds that others have it not, or not right.
type Entry struct {
	ID       string    `json:"id"`             // its GFID
	Path     string    `json:"path,omitempty"` // "" when it cannot be told
	Size     int64     `json:"sizeBytes"`
	Modified time.Time `json:"modified"`
	Changed  time.Time `json:"changed"`
	// Blames are the bricks, by their names in the pool's graphs, that it holds to be
	// wrong.
	Blames map[string][]Counter `json:"blames"`
}

// ClearPendingRequest has a brick hold no more against another one that it has a file wrong.
type ClearPendingRequest struct {
	ID    string `json:"id"`
	Brick string `json:"brick"` // its name in the pool's graphs
	Counters []Counter `json:"kinds"`
}

// Split is a file or folder of which bricks hold each other to be wrong. Nobody can read
// it before it is decided who is right.
type Split struct {
	ID    string           `json:"id"`
	Path  string           `json:"path,omitempty"`
	Counters []Counter           `json:"kinds"`
	Copies   map[string]Entry `json:"has"` // by brick
}

// Splits finds them in what the bricks of one set list.
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

// blameEachOther tells whether two bricks hold each other to be wrong.
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

// Policy says which brick is right.
type Policy string

// Policies; KeepBrick is followed by the brick's index.
const (
	KeepLatest Policy = "latest" // modified last
	KeepBigger Policy = "bigger"
	KeepBrick  string = "brick="
)

// Keep gives the brick that is right by a policy.
func (s Split) Keep(policy Policy) (brick string, err error) {
	if index, is := strings.CutPrefix(string(policy), KeepBrick); is {
		for name := range s.Copies {
			if strings.HasSuffix(name, "-client-"+index) {
				return name, nil
			}
		}
		return "", fmt.Errorf("brick %s does not say that it has %s", index, cmp.Or(s.Path, s.ID))
	}
	better := map[Policy]func(a, b Entry) bool{
		KeepLatest: func(a, b Entry) bool { return a.Modified.After(b.Modified) },
		KeepBigger: func(a, b Entry) bool { return a.Size > b.Size },
	}[policy]
	if better == nil {
		return "", fmt.Errorf("the policy %q is not known: latest, bigger, or brick=INDEX", policy)
	}
	for name, e := range s.Copies {
		if brick == "" || better(e, s.Copies[brick]) {
			brick = name
		}
	}
	for name, e := range s.Copies {
		if name != brick && !better(s.Copies[brick], e) {
			return "", fmt.Errorf("by the policy %q no brick is right about %s: name one, with brick=INDEX", policy, cmp.Or(s.Path, s.ID))
		}
	}
	return brick, nil
}
