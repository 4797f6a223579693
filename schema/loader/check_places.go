package loader

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// brickPlacement is the device, path or claim of a brick.
type brickPlacement struct {
	document *Document
	path     string // in the document
	kind     string // device, path or claim
	owner    string // node, or namespace of a claim
	name     string
	order    int // in which it was read
}

// places checks that no device, path or claim is used by two bricks, of one pool or of
// two. A path below that of another brick counts as the same place, and so does a
// partition of another brick's device.
func (s *scope) places() {
	order := 0
	byOwner := map[[2]string][]brickPlacement{}
	add := func(d *Document, path, kind, owner, name string) {
		order++
		key := [2]string{kind, owner}
		byOwner[key] = append(byOwner[key], brickPlacement{d, path, kind, owner, name, order})
	}
	for _, d := range s.documents {
		for i, b := range d.Pool.Spec.Bricks {
			at := fmt.Sprintf("spec.bricks[%d]", i)
			switch {
			case b.PVC != "":
				add(d, at+".pvc", "claim", d.Pool.NamespaceOr(""), b.PVC)
			case b.Device != "":
				add(d, at+".device", "device", b.Node, b.Device)
			case b.Path != "":
				add(d, at+".path", "path", b.Node, b.Path)
			}
		}
		if t := d.Pool.Spec.Tiebreaker; t != nil && t.Node != "" && t.Path != "" {
			add(d, "spec.tiebreaker.path", "path", t.Node, t.Path)
		}
	}
	for _, group := range byOwner {
		s.overlaps(group)
	}
}

// overlaps compares the places of one owner. They are sorted by name, so only places
// inside the same outer place can come between an outer place and one inside it.
func (s *scope) overlaps(group []brickPlacement) {
	slices.SortStableFunc(group, func(a, b brickPlacement) int { return cmp.Compare(a.name+"/", b.name+"/") })
	var around []brickPlacement
	for _, p := range group {
		for len(around) > 0 && !contains(around[len(around)-1], p) {
			around = around[:len(around)-1]
		}
		if len(around) > 0 {
			s.overlap(around[len(around)-1], p)
		}
		around = append(around, p)
	}
}

func contains(outer, inner brickPlacement) bool {
	if outer.name == inner.name {
		return true
	}
	rest, below := strings.CutPrefix(inner.name, outer.name)
	return below && (outer.kind == "path" && rest[0] == '/' || outer.kind == "device" && partition.MatchString(rest))
}

// partition matches what the name of a partition adds to that of its disk.
var partition = regexp.MustCompile(`^(p?[0-9]+|-part[0-9]+)$`)

// overlap reports the place that was read later.
func (s *scope) overlap(outer, inner brickPlacement) {
	late, early := inner, outer
	if inner.order < outer.order {
		late, early = outer, inner
	}
	where := early.path
	if early.document != late.document {
		where = fmt.Sprintf("%s of pool %s (%s)", early.path, early.document.Pool.Metadata.Name,
			early.document.Position(early.path))
	}
	owner := "node " + late.owner
	if late.kind == "claim" {
		owner = "namespace " + late.owner
	}
	place := fmt.Sprintf("%s %s of %s", late.kind, late.name, owner)
	message := place + " is already used by " + where
	if late.name != early.name {
		message = fmt.Sprintf("%s overlaps with %s, used by %s", place, early.name, where)
	}
	s.found = append(s.found, late.document.finding(schema.SeverityError, late.path, "place-twice", message,
		fmt.Sprintf("a %s that no other brick uses", late.kind)))
}
