package gluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// testbed is a pool with its test.
type testbed struct {
	t *testing.T
	*bricks.Cluster
}

// TestTypes writes to a pool of every native type, kills a brick, reads and writes, restarts the
// brick, waits for the heal, and kills another brick.
func TestTypes(t *testing.T) {
	thin := func(p *volfile.Pool) { p.Tiebreaker = &volfile.Endpoint{} }
	coded := func(data, redundancy int) func(*volfile.Pool) {
		return func(p *volfile.Pool) { p.Data, p.Redundancy = data, redundancy }
	}
	for _, test := range []struct {
		name   string
		kind   schema.Type
		count  int
		shape  func(*volfile.Pool)
		victim int // index of the brick that is killed first, -1 if the type tolerates none
	}{
		{"Replica1", schema.Replica1, 1, nil, -1},
		{"Replica2", schema.Replica2, 2, nil, 1},
		{"Replica2 with tiebreaker", schema.Replica2, 2, thin, 0},
		{"Replica2 2x2 with tiebreaker", schema.Replica2, 4, thin, 3},
		{"Replica3", schema.Replica3, 3, nil, 0},
		{"Replica3 2x3", schema.Replica3, 6, nil, 4},
		{"Arbiter", schema.Arbiter, 3, nil, 1},
		{"Disperse 2+1", schema.Disperse, 3, coded(2, 1), 0},
		{"Disperse 4+2", schema.Disperse, 6, coded(4, 2), 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := testbed{t, bricks.Start(t, test.kind, test.count, test.shape)}
			dir := c.Mount("files", volfile.Client)
			before := bricks.Write(t, dir, "before", 60)
			before.Verify(t, dir)
			if test.victim < 0 {
				return
			}
			bricks.Stop(c.Bricks[test.victim])
			before.Verify(t, dir)
			during := bricks.Write(t, dir, "during", 60)
			during.Verify(t, dir)
			c.StartBrick(test.victim)
			c.Heal()
			c.Eventually("all is healed",
				func() bool { return c.PendingHeals() == 0 && c.complete(test.victim, during) })
			c.compare(test.victim, before, during)
			c.Eventually("the tiebreaker blames no brick", func() bool { return c.Blamed() == 0 })
			c.loseAnother(test.victim)
			remount := c.Mount("again", volfile.Client)
			c.Eventually("the new client is connected to the tiebreaker", func() bool {
				return c.Pool.Tiebreaker == nil || bricks.ConnectedTiebreakers(remount) > 0
			})
			before.Verify(t, remount)
			during.Verify(t, remount)
		})
	}
}

// complete reports whether a brick has every file that its set has.
func (c testbed) complete(brick int, want bricks.Files) bool {
	other := c.neighbour(brick)
	for name := range want {
		_, mine := os.Stat(filepath.Join(c.Pool.Bricks[brick].Directory, name))
		_, theirs := os.Stat(filepath.Join(c.Pool.Bricks[other].Directory, name))
		if (mine == nil) != (theirs == nil) {
			return false
		}
	}
	return true
}

// neighbour is another data brick of the same set.
func (c testbed) neighbour(brick int) int {
	size := map[schema.Type]int{
		schema.Replica2: 2, schema.Replica3: 3, schema.Arbiter: 3,
		schema.Disperse: len(c.Pool.Bricks),
	}[c.Pool.Type]
	first := brick / size * size
	if brick == first {
		return first + 1
	}
	return first
}

// compare checks that the healed brick has the content that was written.
func (c testbed) compare(brick int, all ...bricks.Files) {
	c.t.Helper()
	if c.Pool.Type == schema.Disperse {
		return // fragments differ; after loseAnother, reading needs the healed ones
	}
	compared := 0
	for _, fs := range all {
		for name, sum := range fs {
			data, err := os.ReadFile(filepath.Join(c.Pool.Bricks[brick].Directory, name))
			if os.IsNotExist(err) {
				continue // in another set, as complete has checked
			}
			if err != nil || (bricks.Files{name: sum})[name] != bricks.Checksum(data) {
				c.t.Errorf("brick %d: %s has other content, or %v", brick, name, err)
			}
			compared++
		}
	}
	if compared == 0 {
		c.t.Error("no file was compared")
	}
}

// loseAnother kills a brick that was never down, so that reading needs the healed one. A pair
// without tiebreaker needs its first brick for quorum.
func (c testbed) loseAnother(healed int) {
	if c.Pool.Type == schema.Replica2 && c.Pool.Tiebreaker == nil {
		return
	}
	bricks.Stop(c.Bricks[c.neighbour(healed)])
}

// TestBlockGraph writes a sparse file through the graph for block volumes, also without one of
// three bricks, and checks that it is not sharded.
func TestBlockGraph(t *testing.T) {
	t.Parallel()
	c := testbed{t, bricks.Start(t, schema.Replica3, 3, nil)}
	path := filepath.Join(c.Mount("blocks", volfile.BlockClient), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(300 << 20); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	for i, offset := range []int64{0, 63<<20 + 512<<10, 200 << 20} {
		if i == 1 {
			bricks.Stop(c.Bricks[2])
		}
		if _, err := f.WriteAt(block, offset); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(block))
		if _, err := f.ReadAt(got, offset); err != nil || bricks.Checksum(got) != bricks.Checksum(block) {
			t.Fatalf("read at %d: %v", offset, err)
		}
	}
	// A lock on the file does not cover writes to shards beside it (ADR 0015).
	if _, err := os.Stat(filepath.Join(c.Pool.Bricks[0].Directory, ".shard")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there are shards: %v", err)
	}
}
