package loader

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// scope is what one kustomization, or all plain files, bring into a cluster.
type scope struct {
	documents []*Document
	classes   []*ClassDocument
	found     []finding
}

func (s *scope) check() []finding {
	s.poolNames()
	s.places()
	s.classNames()
	s.classPools()
	return s.found
}

// classPools holds that a converted class asks its pool for what it serves. Pools
// of the former operator served blocks without saying so.
func (s *scope) classPools() {
	for _, c := range s.classes {
		if c.Converted == nil {
			continue
		}
		layout := schema.Layout(c.Converted.Parameters[schema.ParameterLayout])
		for _, d := range s.documents {
			if d.Pool.Metadata.Name != c.Converted.Parameters[schema.ParameterPool] || layout == "" || d.Pool.Spec.Serves(layout) {
				continue
			}
			s.found = append(s.found, finding{Diagnostic: schema.Diagnostic{
				Position: c.places.at("parameters"), Severity: schema.SeverityWarning, Code: "class-layout", Path: "parameters",
				Message: fmt.Sprintf("the class asks for %s, which pool %s does not serve", layout, d.Pool.Metadata.Name),
				Allowed: fmt.Sprintf("convert the pool and add %s to spec.volumes", layout),
			}})
		}
	}
}

// poolNames: a pool's name is its Gluster volume's and its StorageClass's, and
// the driver finds it by name alone, so it is unique in the cluster.
func (s *scope) poolNames() {
	first := map[string]*Document{}
	for _, d := range s.documents {
		name := d.Pool.Metadata.Name
		if name == "" {
			continue
		}
		other, taken := first[name]
		if !taken {
			first[name] = d
			continue
		}
		message := fmt.Sprintf("pool %s is defined at %s already", name, other.Source)
		if d.Pool.NamespaceOr("") != other.Pool.NamespaceOr("") {
			message = fmt.Sprintf("pool %s is defined in namespace %s already, at %s", name, other.Pool.NamespaceOr(""), other.Source)
		}
		s.found = append(s.found, d.finding(schema.SeverityError, "metadata.name", "pool-twice", message, "a name that no other pool of the cluster has"))
	}
}

// brickPlacement is one place of a node, or a claim, that a brick takes.
type brickPlacement struct {
	document *Document
	path     string // of the document
	kind     string // device, path or claim
	owner    string // node, or namespace of a claim
	name     string
	order    int // in which it was read
}

// places holds that no device, folder or claim serves two bricks, of one pool or
// of two. A folder within another brick's folder counts, and so does a partition
// of another brick's device.
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

// overlaps compares the uses of one owner. Sorted by name, what contains a place
// stands right before it but for places in between that it contains as well.
func (s *scope) overlaps(group []brickPlacement) {
	slices.SortStableFunc(group, func(a, b brickPlacement) int { return cmp.Compare(a.name+"/", b.name+"/") })
	var around []brickPlacement
	for _, u := range group {
		for len(around) > 0 && !contains(around[len(around)-1], u) {
			around = around[:len(around)-1]
		}
		if len(around) > 0 {
			s.overlap(around[len(around)-1], u)
		}
		around = append(around, u)
	}
}

func contains(outer, inner brickPlacement) bool {
	if outer.name == inner.name {
		return true
	}
	rest, below := strings.CutPrefix(inner.name, outer.name)
	return below && (outer.kind == "path" && rest[0] == '/' || outer.kind == "device" && partition.MatchString(rest))
}

// partition is what names of partitions have after the name of the disk.
var partition = regexp.MustCompile(`^(p?[0-9]+|-part[0-9]+)$`)

// overlap reports the one that was read later.
func (s *scope) overlap(outer, inner brickPlacement) {
	late, early := inner, outer
	if inner.order < outer.order {
		late, early = outer, inner
	}
	where := early.path
	if early.document != late.document {
		where = fmt.Sprintf("%s of pool %s (%s)", early.path, early.document.Pool.Metadata.Name, early.document.Position(early.path))
	}
	owner := "node " + late.owner
	if late.kind == "claim" {
		owner = "namespace " + late.owner
	}
	what := fmt.Sprintf("%s %s of %s", late.kind, late.name, owner)
	message := what + " is used by " + where + " already"
	if late.name != early.name {
		message = fmt.Sprintf("%s overlaps with %s, used by %s", what, early.name, where)
	}
	s.found = append(s.found, late.document.finding(schema.SeverityError, late.path, "place-twice", message, "a place that belongs to this brick alone"))
}

// classNames holds that no two classes of the cluster have one name, and names
// more than one default.
func (s *scope) classNames() {
	owner := map[string]string{}
	var standard string
	claim := func(name, who string, isDefault bool, say func(severity schema.Severity, code, message, allowed string)) {
		if name == "" {
			return
		}
		if other, taken := owner[name]; taken {
			say(schema.SeverityError, "class-twice", fmt.Sprintf("StorageClass %s is %s already", name, other), "a name that no other class of the cluster has")
		} else {
			owner[name] = who
		}
		if isDefault && standard != "" {
			say(schema.SeverityWarning, "class-default", fmt.Sprintf("StorageClass %s is the default already: of two, Kubernetes takes the younger", standard), "one default class")
		}
		if isDefault {
			standard = name
		}
	}
	seen := map[string]bool{}
	for _, d := range s.documents {
		pool := d.Pool.Metadata.Name
		if seen[pool] {
			continue // reported as a pool
		}
		seen[pool] = true
		for _, name := range schema.BuiltinClasses(d.Pool) {
			claim(name, fmt.Sprintf("pool %s's own", pool), false, func(severity schema.Severity, code, message, allowed string) {
				s.found = append(s.found, d.finding(severity, "metadata.name", code, message, allowed))
			})
		}
	}
	for _, d := range s.documents {
		for i, class := range d.Pool.Spec.StorageClasses {
			path := fmt.Sprintf("spec.storageClasses[%d].name", i)
			claim(class.Name, fmt.Sprintf("a class of pool %s (%s)", d.Pool.Metadata.Name, d.Position(path)), class.Default, func(severity schema.Severity, code, message, allowed string) {
				s.found = append(s.found, d.finding(severity, path, code, message, allowed))
			})
		}
	}
	for _, c := range s.classes {
		claim(c.Name, fmt.Sprintf("a document (%s)", c.Source), c.Default, func(severity schema.Severity, code, message, allowed string) {
			s.found = append(s.found, finding{Diagnostic: schema.Diagnostic{
				Position: c.places.at("metadata.name"), Severity: severity, Code: code,
				Path: "metadata.name", Message: message, Allowed: allowed,
			}})
		})
	}
}
