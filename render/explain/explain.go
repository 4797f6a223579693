// Package explain describes a pool to people before it is applied: its sets, the failures it
// survives, usable capacity and classes.
package explain

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// Explanation describes a pool.
type Explanation struct {
	Pool      string   `json:"pool"`
	Namespace string   `json:"namespace"`
	Type      string   `json:"type"`
	Sets      []Set    `json:"sets,omitempty"`
	Tie       string   `json:"tiebreaker,omitempty"`
	Tolerates string   `json:"tolerates"`          // failures that do not interrupt service
	Usable    *Share   `json:"usable,omitempty"`   // of the bricks' raw capacity; nil for External
	Layouts   []string `json:"layouts"`            // descriptions of the layouts
	Classes   []string `json:"storageClasses"`     // names of StorageClasses
	Notes     []string `json:"notes,omitempty"`    // consequences that are easy to miss
	Reclaim   string   `json:"reclaim"`            // what happens to data of deleted claims
	External  string   `json:"external,omitempty"` // volume and hosts
}

// Set is one group of bricks that store the same files.
type Set struct {
	Bricks []string `json:"bricks"` // index and place, such as "0 kube1:/srv/a"
}

// Share is a fraction: Raw bricks store Data bricks' worth of data.
type Share struct {
	Data int `json:"data"`
	Raw  int `json:"raw"`
}

// Explain describes a valid pool.
func Explain(p *schema.Pool) Explanation {
	s := &p.Spec
	e := Explanation{
		Pool: p.Metadata.Name, Namespace: p.NamespaceOr(""), Type: kind(s),
		Classes: schema.BuiltinClasses(p), Reclaim: reclaim(s), Tolerates: tolerates(s), Notes: notes(s),
	}
	for _, c := range s.StorageClasses {
		e.Classes = append(e.Classes, c.Name)
	}
	for _, l := range []schema.Layout{schema.Subdirectory, schema.Block, schema.Single} {
		if s.Serves(l) {
			e.Layouts = append(e.Layouts, map[schema.Layout]string{
				schema.Subdirectory: "many volumes, each a directory (Subdirectory)",
				schema.Block:        "many volumes, each a file behind a loop device, one writer at a time (Block)",
				schema.Single:       "the whole pool is one volume (Single)",
			}[l])
		}
	}
	if x := s.External; x != nil {
		e.External = fmt.Sprintf("volume %s, served by %s", x.Volume, strings.Join(x.Hosts, ", "))
		return e
	}
	index := 0
	for _, bricks := range s.Sets() {
		var set Set
		for _, b := range bricks {
			set.Bricks = append(set.Bricks, fmt.Sprintf("%d %s%s", index, Place(b), role(s, index)))
			index++
		}
		e.Sets = append(e.Sets, set)
	}
	if t := s.Tiebreaker; t != nil {
		e.Tie = cmp.Or(t.Node, t.Host) + ":" + t.Path
	}
	e.Usable = usable(s)
	return e
}

// Place returns where a brick is: node:device, node:path or "claim" and its name.
func Place(b schema.Brick) string {
	if b.PVC != "" {
		return "claim " + b.PVC
	}
	return b.Node + ":" + b.Device + b.Path
}

func role(s *schema.Spec, index int) string {
	if s.Type == schema.Arbiter && index%3 == 2 {
		return " (metadata only)"
	}
	return ""
}

func kind(s *schema.Spec) string {
	switch {
	case s.Type == schema.Disperse && s.Disperse != nil:
		return fmt.Sprintf("Disperse %d+%d", s.Disperse.Data, s.Disperse.Redundancy)
	case s.Type == schema.Replica2 && s.Tiebreaker != nil:
		return "Replica2 with tiebreaker"
	}
	return string(s.Type)
}

func reclaim(s *schema.Spec) string {
	switch s.Reclaim {
	case schema.ReclaimArchive:
		return "deleting a claim archives its data until an administrator purges it (Archive)"
	case schema.ReclaimRetain:
		return "deleting a claim keeps its volume (Retain)"
	}
	return "deleting a claim deletes its data (Delete)"
}

func tolerates(s *schema.Spec) string {
	switch s.Type {
	case schema.Replica1:
		return "no brick offline: its files are unavailable until it is back"
	case schema.Replica2:
		if s.Tiebreaker != nil {
			return "any one brick of each set offline, or the tiebreaker"
		}
		return "the second brick of each set offline; without the first one the set is read-only"
	case schema.Replica3, schema.Arbiter:
		return "any one brick of each set offline"
	case schema.Disperse:
		if s.Disperse != nil && s.Disperse.Redundancy > 1 {
			return fmt.Sprintf("any %d bricks of each set offline", s.Disperse.Redundancy)
		}
		return "any one brick of each set offline"
	}
	return "depends on the cluster that serves it"
}

// usable returns the share of raw capacity that stores data. The third brick of an Arbiter
// set is small and not counted.
func usable(s *schema.Spec) *Share {
	sets := len(s.Sets())
	switch s.Type {
	case schema.Replica1:
		return &Share{sets, sets}
	case schema.Replica2, schema.Arbiter:
		return &Share{sets, 2 * sets}
	case schema.Replica3:
		return &Share{sets, 3 * sets}
	case schema.Disperse:
		return &Share{sets * s.DataBricks(), sets * s.SetSize()}
	}
	return nil
}

func notes(s *schema.Spec) []string {
	var all []string
	if s.Type == schema.Disperse && s.Disperse != nil && s.Disperse.Data&(s.Disperse.Data-1) != 0 {
		all = append(all, fmt.Sprintf("%d data bricks are not a power of two: small writes need a read first",
			s.Disperse.Data))
	}
	if s.AllowSameNode {
		all = append(all, "bricks of one set may share a node: losing the node loses them together")
	}
	if n := len(s.Sets()); n > 1 {
		all = append(all,
			fmt.Sprintf("files are distributed over %d sets: a file must fit into the free space of one set",
				n))
	}
	leaving := 0
	for _, b := range s.Bricks {
		if b.Decommissioned {
			leaving++
		}
	}
	if leaving > 0 {
		all = append(all, fmt.Sprintf("%d bricks are decommissioned", leaving))
	}
	if s.Suspend {
		all = append(all, "suspended: changes are not applied")
	}
	return all
}
