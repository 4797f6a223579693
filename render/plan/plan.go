// Package plan describes what a change of pool documents would do to a cluster, and which
// parts of it put data at risk.
package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
)

// Verb is what happens to a pool or an object.
type Verb string

// The verbs.
const (
	Added   Verb = "added"
	Changed Verb = "changed"
	Removed Verb = "removed"
)

// Plan is the difference between two states of the documents.
type Plan struct {
	Pools []Pool `json:"pools"` // only those that change, sorted by name
}

// Pool is what happens to one pool.
type Pool struct {
	Name    string   `json:"name"`
	Verb    Verb     `json:"verb"`
	Objects []Object `json:"objects"`
	Dangers []Danger `json:"dangers,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// Object is what happens to one Kubernetes object.
type Object struct {
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name"`
	Verb      Verb     `json:"verb"`
	Fields    []string `json:"fields,omitempty"` // that change, sorted
}

// Danger is a change that puts data at risk or that the cluster rejects.
type Danger struct {
	Code    string `json:"code"` // stable and short, such as brick-moved
	Message string `json:"message"`
	Instead string `json:"instead"` // what to do instead
}

// Dangerous reports whether any change is dangerous.
func (p *Plan) Dangerous() bool {
	return slices.ContainsFunc(p.Pools, func(c Pool) bool { return len(c.Dangers) > 0 })
}

// Compare renders both states and returns their differences. Pools are matched by name.
func Compare(before, after []*schema.Pool, o render.Options) (*Plan, error) {
	was, is := byName(before), byName(after)
	names := slices.Collect(maps.Keys(was))
	for name := range is {
		if was[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	p := &Plan{Pools: []Pool{}}
	for _, name := range names {
		c, err := compare(was[name], is[name], o)
		if err != nil {
			return nil, err
		}
		if c.Verb != Changed || len(c.Objects) > 0 || len(c.Dangers) > 0 {
			c.Name = name
			p.Pools = append(p.Pools, *c)
		}
	}
	return p, nil
}

func byName(pools []*schema.Pool) map[string]*schema.Pool {
	m := map[string]*schema.Pool{}
	for _, p := range pools {
		m[p.Metadata.Name] = p
	}
	return m
}

// compare compares one pool; was or is may be nil.
func compare(was, is *schema.Pool, o render.Options) (*Pool, error) {
	c := &Pool{Verb: Changed}
	switch {
	case was == nil:
		c.Verb = Added
	case is == nil:
		c.Verb = Removed
		c.danger("pool-removed", "the pool's bricks stop and its volumes become unusable; the data stays on its disks",
			"remove it when no volume is left, or keep the document with suspend: true")
	default:
		c.dangers(was, is, o)
	}
	old, err := objects(was, o)
	if err != nil {
		return nil, err
	}
	now, err := objects(is, o)
	if err != nil {
		return nil, err
	}
	c.objects(old, now)
	return c, nil
}

// object is a rendered object and its fields.
type object struct {
	kind, namespace, name string
	fields                map[string]any
}

func objects(p *schema.Pool, o render.Options) ([]object, error) {
	if p == nil {
		return nil, nil
	}
	rendered, err := render.Render(p, o)
	if err != nil {
		return nil, err
	}
	var all []object
	for _, r := range rendered {
		fields, err := render.Fields(r)
		if err != nil {
			return nil, err
		}
		all = append(all, object{r.GetObjectKind().GroupVersionKind().Kind, r.GetNamespace(), r.GetName(), fields})
	}
	return all, nil
}

// objects lists what happens to each object, in the order of rendering, removed objects last.
func (c *Pool) objects(was, is []object) {
	key := func(o object) [3]string { return [3]string{o.kind, o.namespace, o.name} }
	old := map[[3]string]object{}
	for _, o := range was {
		old[key(o)] = o
	}
	kept := map[[3]string]bool{}
	for _, o := range is {
		before, existed := old[key(o)]
		kept[key(o)] = true
		change := Object{Kind: o.kind, Namespace: o.namespace, Name: o.name, Verb: Added}
		if existed {
			change.Verb, change.Fields = Changed, paths(Differences("", before.fields, o.fields))
			if len(change.Fields) == 0 {
				continue
			}
			c.immutable(change)
		}
		c.Objects = append(c.Objects, change)
	}
	for _, o := range was {
		if !kept[key(o)] {
			c.Objects = append(c.Objects, Object{Kind: o.kind, Namespace: o.namespace, Name: o.name, Verb: Removed})
			if o.kind == "StorageClass" && c.Verb != Removed {
				c.Notes = append(c.Notes,
					fmt.Sprintf("StorageClass %s is removed: new claims that name it stay pending; existing volumes are kept",
						o.name))
			}
		}
	}
	c.restarts()
}

// restarts adds a note if brick pods need a restart: their StatefulSets do not restart them.
func (c *Pool) restarts() {
	n := 0
	for _, o := range c.Objects {
		if o.Kind == "StatefulSet" && o.Verb == Changed && slices.ContainsFunc(o.Fields, isTemplate) {
			n++
		}
	}
	if n > 0 {
		c.Notes = append(c.Notes,
			fmt.Sprintf("%d brick pods need a restart to apply the change: "+
				"delete one at a time, and wait for its heal before the next", n))
	}
}

func (c *Pool) danger(code, message, instead string) {
	c.Dangers = append(c.Dangers, Danger{code, message, instead})
}
