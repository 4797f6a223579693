package volfile

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/definition"
)

var update = flag.Bool("update", false, "write the golden files")

func pool(name string, kind schema.Type, bricks int) Pool {
	p := Pool{Name: name, VolumeID: "64220cb5-c301-41b1-b4f1-e5756b3171dc", Type: kind}
	for i := range bricks {
		p.Bricks = append(p.Bricks, Endpoint{
			fmt.Sprintf("brick-%d.example", i), 24007,
			"/bricks/" + name + "/data/brick",
		})
	}
	return p
}

func pools() []Pool {
	thin := pool("ta", schema.Replica2, 2)
	thin.Tiebreaker = &Endpoint{"ta.example", 24007, "/bricks/ta/data/brick"}
	d42 := pool("d42", schema.Disperse, 6)
	d42.Data, d42.Redundancy = 4, 2
	leaving := pool("leaving", schema.Replica1, 3)
	leaving.Leaving = []int{2}
	tuned := pool("tuned", schema.Replica3, 3)
	tuned.Options = map[string]string{
		"performance.quick-read": "off", "performance.io-cache": "on", "performance.cache-size": "64MB",
		"network.ping-timeout": "7", "cluster.heal-timeout": "30", "storage.reserve": "2",
		"cluster.quorum-type": "none",
	}
	return []Pool{
		pool("r1", schema.Replica1, 1), pool("r2", schema.Replica2, 2), thin, pool("r3", schema.Replica3, 3),
		pool("arb", schema.Arbiter, 3), d42, pool("dr", schema.Replica3, 6), leaving, tuned,
	}
}

// TestGolden compares every graph of every type with a golden file. tests/gluster starts a
// real process with each of them.
func TestGolden(t *testing.T) {
	for _, p := range pools() {
		last := len(p.Bricks) - 1
		graphs := map[string]func() (*Xlator, error){
			"brick-0":                     func() (*Xlator, error) { return Brick(p, 0) },
			fmt.Sprintf("brick-%d", last): func() (*Xlator, error) { return Brick(p, last) },
			"files":                       func() (*Xlator, error) { return Client(p) },
			"blocks":                      func() (*Xlator, error) { return BlockClient(p) },
		}
		graphs["heal"] = func() (*Xlator, error) { return Heal(p) }
		if len(p.Bricks) > p.setSize() {
			graphs["rebalance"] = func() (*Xlator, error) { return Rebalance(p) }
		}
		if p.Tiebreaker != nil {
			graphs["tiebreaker"] = func() (*Xlator, error) { return Tiebreaker(p) }
		}
		for name, build := range graphs {
			golden(t, p.Name+"."+name+".vol", build)
		}
	}
}

func golden(t *testing.T, name string, build func() (*Xlator, error)) {
	t.Helper()
	x, err := build()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got, err := Print(x)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s differs (go test -update writes it; %v):\n%s", path, err, got)
	}
}

func TestOptionsOfSchema(t *testing.T) {
	if got, want := OptionNames(), definition.OptionNames(); !slices.Equal(got, want) {
		t.Errorf("options of the graphs:\n%v\noptions of pool.cue:\n%v", got, want)
	}
}

func TestRefused(t *testing.T) {
	x := &Xlator{Name: "a", Type: "b/c"}
	loop := &Xlator{Name: "a", Type: "b/c"}
	loop.Subvolumes = []*Xlator{loop}
	for name, x := range map[string]*Xlator{
		"nil":       nil,
		"cycle":     loop,
		"same name": {Name: "a", Type: "b/c", Subvolumes: []*Xlator{x}},
		"newline":   {Name: "a", Type: "b/c", Options: []Option{{"o", "x\nend-volume"}}},
		"quote":     {Name: "a", Type: "b/c", Options: []Option{{"o", `a"b`}}},
		"empty":     {Name: "a", Type: "b/c", Options: []Option{{"o", ""}}},
		"name":      {Name: "a b", Type: "b/c"},
		"type":      {Name: "a", Type: ""},
		"option":    {Name: "a", Type: "b/c", Options: []Option{{"o p", "v"}}},
	} {
		if out, err := Print(x); !errors.Is(err, ErrUnprintable) {
			t.Errorf("%s: printed\n%s", name, out)
		}
	}
	if _, err := Brick(pool("x", schema.Replica3, 4), 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("4 bricks in sets of 3: %v", err)
	}
	if _, err := Heal(pool("x", schema.External, 0)); !errors.Is(err, ErrNoHeal) {
		t.Errorf("heal of an External pool: %v", err)
	}
	if _, err := Rebalance(pool("x", schema.Replica3, 3)); !errors.Is(err, ErrOneSet) {
		t.Errorf("rebalance of one set: %v", err)
	}
	leaving := pool("x", schema.Replica3, 6)
	leaving.Leaving = []int{2}
	if _, err := Client(leaving); !errors.Is(err, ErrInvalid) {
		t.Errorf("decommissioned set 2 of two sets: %v", err)
	}
}

// FuzzPrint checks that the output of Print parses as the same graph.
func FuzzPrint(f *testing.F) {
	f.Add("a", "b/c", "o", "v")
	f.Add("/bricks/x", "debug/io-stats", "log-level", "a b")
	f.Add("a", "b", "end-volume", "#x")
	f.Fuzz(func(t *testing.T, name, kind, option, value string) {
		text, err := Print(&Xlator{Name: name, Type: kind, Options: []Option{{option, value}}})
		if err != nil {
			return
		}
		value = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
		lines := strings.Split(text, "\n")
		if len(lines) != 5 || lines[0] != "volume "+name || lines[1] != "    type "+kind || lines[3] != "end-volume" {
			t.Fatalf("%q", text)
		}
		got := strings.TrimPrefix(lines[2], "    option "+option+" ")
		if got != value && got != `"`+value+`"` {
			t.Fatalf("value %q became %q", value, got)
		}
	})
}

// TestAddedSetsKeepGraph adds sets and checks that the xlators of the first set do not change
// in any graph: bricks store attributes with their names.
func TestAddedSetsKeepGraph(t *testing.T) {
	for name, p := range map[string]Pool{
		"replica2": {Type: schema.Replica2, Bricks: make([]Endpoint, 2)},
		"tiebreaker": {
			Type: schema.Replica2, Bricks: make([]Endpoint, 2),
			Tiebreaker: &Endpoint{Host: "ta", Port: 1, Directory: "/ta"},
		},
		"replica3": {Type: schema.Replica3, Bricks: make([]Endpoint, 3)},
		"arbiter":  {Type: schema.Arbiter, Bricks: make([]Endpoint, 3)},
		"disperse": {Type: schema.Disperse, Data: 2, Redundancy: 1, Bricks: make([]Endpoint, 3)},
	} {
		p.Name, p.VolumeID = "p", "64220cb5-c301-41b1-b4f1-e5756b3171dc"
		grown := p
		grown.Bricks = append(slices.Clone(p.Bricks), make([]Endpoint, 2*len(p.Bricks))...)
		for i := range grown.Bricks {
			grown.Bricks[i] = Endpoint{Host: fmt.Sprintf("h%d", i), Port: 1, Directory: "/b"}
		}
		copy(p.Bricks, grown.Bricks)
		for graph, build := range map[string]func(Pool) (*Xlator, error){
			"client": Client, "block": BlockClient,
			"heal": Heal,
		} {
			before, after := printed(t, build, p), printed(t, build, grown)
			for block := range strings.SplitSeq(before, "\n\n") {
				above := strings.Contains(block, "cluster/distribute") || strings.Contains(block, "debug/io-stats")
				if !above && !strings.Contains(after, strings.TrimSpace(block)) {
					t.Errorf("%s, %s graph: adding sets removed this:\n%s", name, graph, block)
				}
			}
		}
	}
}

func printed(t *testing.T, build func(Pool) (*Xlator, error), p Pool) string {
	t.Helper()
	x, err := build(p)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Print(x)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
