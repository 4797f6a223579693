package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
	"github.com/atoll-storage/atoll/schema"
)

func triple() *schema.Pool {
	return &schema.Pool{
		Metadata: schema.Metadata{Name: "p"},
		Spec: schema.Spec{Type: schema.Replica3, Bricks: []schema.Brick{
			{Node: "a", Path: "/p"}, {Node: "b", Path: "/p"}, {Node: "c", Path: "/p"},
		}, StorageClasses: []schema.StorageClass{{Name: "extra"}}},
	}
}

// copies returns a pool of one set with n copies.
func copies(n int) func() *schema.Pool {
	return func() *schema.Pool {
		p := triple()
		p.Spec.Type = []schema.Type{schema.Replica1, schema.Replica2, schema.Replica3}[n-1]
		p.Spec.Bricks = p.Spec.Bricks[:n]
		return p
	}
}

func external() *schema.Pool {
	return &schema.Pool{
		Metadata: schema.Metadata{Name: "p"},
		Spec: schema.Spec{
			Type:     schema.External,
			External: &schema.ExternalSpec{Hosts: []string{"g1"}, Volume: "v"},
		},
	}
}

// TestDangers changes one thing at a time.
func TestDangers(t *testing.T) {
	more := []schema.Brick{{Node: "a", Path: "/q"}, {Node: "b", Path: "/q"}, {Node: "c", Path: "/q"}}
	for _, test := range []struct {
		name   string
		before func() *schema.Pool
		change func(before, after *schema.Pool)
		want   []string // codes of the dangers
	}{
		{"no change", triple, func(_, _ *schema.Pool) {}, nil},
		{
			"option", triple,
			func(_, p *schema.Pool) { p.Spec.Options = map[string]string{"network.ping-timeout": "5"} },
			nil,
		},
		{"set added", triple, func(_, p *schema.Pool) { p.Spec.Bricks = append(p.Spec.Bricks, more...) }, nil},
		{
			"set removed", triple, func(p, _ *schema.Pool) { p.Spec.Bricks = append(p.Spec.Bricks, more...) },
			[]string{"brick-removed", "brick-removed", "brick-removed"},
		},
		{"drained set removed", triple, func(p, _ *schema.Pool) {
			for _, b := range more {
				b.Decommissioned = true
				p.Spec.Bricks = append(p.Spec.Bricks, b)
			}
		}, nil},
		{"drained set removed from the front", triple, func(p, _ *schema.Pool) {
			drained := slices.Clone(more)
			for i := range drained {
				drained[i].Decommissioned = true
			}
			p.Spec.Bricks = append(drained, p.Spec.Bricks...)
		}, []string{
			"brick-removed", "brick-removed", "brick-removed", "brick-reordered", "brick-reordered",
			"brick-reordered",
		}},
		{"brick moved", triple, func(_, p *schema.Pool) { p.Spec.Bricks[1].Node = "d" }, []string{"brick-moved"}},
		{"brick moved to a device", triple, func(_, p *schema.Pool) {
			p.Spec.Bricks[1] = schema.Brick{Node: "b", Device: "/dev/sdb"}
		}, []string{"brick-moved"}},
		{
			"brick renewed", triple, func(_, p *schema.Pool) { p.Spec.Bricks[1].Generation = 2 },
			[]string{"brick-renewed"},
		},
		{
			"generation decreased", triple, func(b, _ *schema.Pool) { b.Spec.Bricks[1].Generation = 2 },
			[]string{"brick-generation"},
		},
		{"whole set moved", triple, func(_, p *schema.Pool) {
			for i := range p.Spec.Bricks {
				p.Spec.Bricks[i].Node += "2"
			}
		}, []string{"brick-moved", "brick-moved", "brick-moved", "set-lost"}},
		{"both data bricks renewed", func() *schema.Pool {
			p := triple()
			p.Spec.Type = schema.Arbiter
			return p
		}, func(_, p *schema.Pool) {
			p.Spec.Bricks[0].Generation, p.Spec.Bricks[1].Generation = 2, 2
		}, []string{"brick-renewed", "brick-renewed", "set-lost"}},
		{"only copy moved", func() *schema.Pool {
			p := triple()
			p.Spec.Type, p.Spec.Bricks = schema.Replica1, p.Spec.Bricks[:1]
			return p
		}, func(_, p *schema.Pool) { p.Spec.Bricks[0].Node = "z" }, []string{"brick-moved", "set-lost"}},
		{
			"bricks swapped", triple, func(_, p *schema.Pool) { slices.Reverse(p.Spec.Bricks) },
			[]string{"brick-reordered", "brick-reordered"},
		},
		{"type", triple, func(_, p *schema.Pool) { p.Spec.Type = schema.Arbiter }, []string{"type-changed"}},
		{"second copy", copies(1), func(_, p *schema.Pool) { *p = *copies(2)() }, nil},
		{"third copy", copies(2), func(_, p *schema.Pool) { *p = *copies(3)() }, nil},
		{
			"second copy while the first brick is recreated", copies(1),
			func(_, p *schema.Pool) { *p = *copies(2)(); p.Spec.Bricks[0].Generation = 2 },
			[]string{"brick-renewed", "set-lost"},
		},
		{
			"second copy in front", copies(1),
			func(_, p *schema.Pool) { *p = *copies(2)(); slices.Reverse(p.Spec.Bricks) },
			[]string{"brick-reordered", "set-lost"},
		},
		{"second copy with several sets", copies(1), func(was, p *schema.Pool) {
			was.Spec.Bricks = copies(2)().Spec.Bricks
			*p = *copies(2)()
			p.Spec.Bricks = append(p.Spec.Bricks, copies(3)().Spec.Bricks[2], schema.Brick{Node: "z", Path: "/p"})
		}, []string{"type-changed"}},
		{"third copy with a tiebreaker", copies(2), func(was, p *schema.Pool) {
			was.Spec.Tiebreaker = &schema.Tiebreaker{Node: "t", Path: "/t"}
			*p = *copies(3)()
		}, []string{"type-changed"}},
		{"two copies added", copies(1), func(_, p *schema.Pool) { *p = *copies(3)() }, []string{"type-changed"}},
		{"copy removed", triple, func(_, p *schema.Pool) { *p = *copies(2)() }, []string{"type-changed"}},
		{
			"namespace", triple, func(_, p *schema.Pool) { p.Metadata.Namespace = "x" },
			[]string{"namespace", "volume-id"},
		},
		{
			"volume ID", triple, func(_, p *schema.Pool) { p.Spec.VolumeID = "64220cb5-c301-41b1-b4f1-e5756b3171dc" },
			[]string{"volume-id"},
		},
		{
			"layout", triple,
			func(p, _ *schema.Pool) { p.Spec.Volumes = []schema.Layout{schema.Subdirectory, schema.Block} },
			[]string{"layout-removed"},
		},
		{
			"class parameter", triple,
			func(_, p *schema.Pool) { p.Spec.StorageClasses[0].Parameters = map[string]string{"a": "b"} },
			[]string{"immutable"},
		},
		{
			"class binding", triple,
			func(_, p *schema.Pool) { p.Spec.StorageClasses[0].BindingMode = "WaitForFirstConsumer" },
			[]string{"immutable"},
		},
		{
			"reclaim", triple, func(_, p *schema.Pool) { p.Spec.Reclaim = schema.ReclaimRetain },
			[]string{"immutable", "immutable"},
		},
		{
			"class mount options", triple,
			func(_, p *schema.Pool) { p.Spec.StorageClasses[0].MountOptions = []string{"noatime"} }, nil,
		},
		{"class removed", triple, func(_, p *schema.Pool) { p.Spec.StorageClasses = nil }, nil},
		{"coding", func() *schema.Pool {
			p := triple()
			p.Spec.Type, p.Spec.Disperse = schema.Disperse, &schema.DisperseSpec{Data: 2, Redundancy: 1}
			return p
		}, func(p, after *schema.Pool) {
			p.Spec.Bricks, after.Spec.Bricks = more, append(slices.Clone(more), triple().Spec.Bricks...)
			after.Spec.Disperse = &schema.DisperseSpec{Data: 4, Redundancy: 2}
		}, []string{"disperse-changed"}},
		{"external volume", external, func(_, p *schema.Pool) {
			p.Spec.External = &schema.ExternalSpec{Hosts: []string{"g1"}, Volume: "w"}
		}, []string{"external-volume"}},
		{"external hosts", external, func(_, p *schema.Pool) {
			p.Spec.External = &schema.ExternalSpec{Hosts: []string{"g2"}, Volume: "v"}
		}, []string{"external-hosts"}},
		{"external host added", external, func(_, p *schema.Pool) {
			p.Spec.External = &schema.ExternalSpec{Hosts: []string{"g2", "g1"}, Volume: "v"}
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, after := test.before(), test.before()
			test.change(before, after)
			p, err := plan.Compare([]*schema.Pool{before}, []*schema.Pool{after}, render.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range p.Pools {
				for _, d := range c.Dangers {
					got = append(got, d.Code)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) || p.Dangerous() != (len(test.want) > 0) {
				t.Errorf("dangers %v, want %v:\n%s", got, test.want, p)
			}
		})
	}
}

func TestTiebreaker(t *testing.T) {
	with := func(tb *schema.Tiebreaker) []*schema.Pool {
		return []*schema.Pool{{Metadata: schema.Metadata{Name: "p"}, Spec: schema.Spec{
			Type: schema.Replica2, Tiebreaker: tb, Bricks: []schema.Brick{{PVC: "a"}, {PVC: "b"}},
		}}}
	}
	one, two := &schema.Tiebreaker{Node: "a", Path: "/ta"}, &schema.Tiebreaker{Node: "b", Path: "/ta"}
	for want, c := range map[string][2]*schema.Tiebreaker{
		"tiebreaker-added": {nil, one}, "tiebreaker-removed": {one, nil}, "tiebreaker-moved": {one, two},
	} {
		p, err := plan.Compare(with(c[0]), with(c[1]), render.Options{})
		if err != nil || !strings.Contains(p.String(), want) {
			t.Errorf("no %s in:\n%s%v", want, p, err)
		}
	}
}

func TestPoolAddedAndRemoved(t *testing.T) {
	p, err := plan.Compare(nil, []*schema.Pool{triple()}, render.Options{})
	if err != nil || p.Dangerous() || !strings.Contains(p.String(), "+ StatefulSet atoll-p-2") {
		t.Errorf("added: %s%v", p, err)
	}
	p, err = plan.Compare([]*schema.Pool{triple()}, nil, render.Options{})
	if err != nil || !p.Dangerous() || !strings.Contains(p.String(), "- StatefulSet atoll-p-2") {
		t.Errorf("removed: %s%v", p, err)
	}
	p, err = plan.Compare([]*schema.Pool{triple()}, []*schema.Pool{triple()}, render.Options{})
	if err != nil || p.Dangerous() || p.String() != "nothing changes\n" {
		t.Errorf("same: %s%v", p, err)
	}
}
