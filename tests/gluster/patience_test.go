package gluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestSlowDisk writes much at once to a brick whose disk takes longer for a write than clients wait for a
// node's acknowledgement: the client stays connected.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	bricks.Stop(c.Bricks[0])
	c.Change = slowDisk
	c.StartBrick(0)
	dir := c.Mount("files", volfile.Client)
	const writers = 100 // more than the brick reads requests of (server.outstanding-rpc-limit)
	written := make(chan error, writers)
	for i := range writers {
		go func() { written <- os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, 1<<20), 0o600) }()
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "files.log"))
	if err != nil || strings.Contains(string(text), "disconnected from") {
		t.Errorf("the client lost its connection, %v:\n%s", err, text)
	}
	bricks.Stop(c.Bricks[0]) // the other writes fail now
	for range writers - 1 {
		if err := <-written; err != nil {
			t.Logf("after the brick was stopped: %v", err)
		}
	}
}

// slowDisk has a brick wait for 12 s in every thread that writes, as the system call to a slow disk does.
func slowDisk(x *volfile.Xlator) {
	for x.Type != "performance/io-threads" {
		x = x.Subvolumes[0]
	}
	x.Options = append(x.Options, volfile.Option{Name: "thread-count", Value: "64"})
	x.Subvolumes[0] = &volfile.Xlator{
		Name: "slow", Type: "debug/delay-gen", Subvolumes: []*volfile.Xlator{x.Subvolumes[0]},
		Options: []volfile.Option{
			{Name: "delay-percentage", Value: "100"}, {Name: "delay-duration", Value: "12000000"}, // microseconds
			{Name: "enable", Value: "write"},
		},
	}
}
