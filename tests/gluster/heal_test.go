package gluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestHealFull replaces the disk of a brick with an empty one, and requests a full heal, which
// restores all files.
func TestHealFull(t *testing.T) {
	for name, test := range map[string]struct {
		kind  schema.Type
		shape func(*volfile.Pool)
	}{
		"Replica3": {schema.Replica3, nil},
		"Disperse": {schema.Disperse, func(p *volfile.Pool) { p.Data, p.Redundancy = 2, 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := bricks.Start(t, test.kind, 3, test.shape)
			mounted := c.Mount("client", volfile.Client)
			dir := filepath.Join(mounted, "a/b")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			written := bricks.Write(t, dir, "file", 30)
			bricks.Stop(c.Bricks[2])
			c.Replace(2)
			c.Heal()
			h, err := gluster.ParseHealers(c.HealVolfile())
			if err != nil || len(h) != 1 || len(h[0].Bricks) != 3 {
				t.Fatalf("%+v, %v", h, err)
			}
			full := sometimes(func() { // until the daemon listens, and is connected to all bricks
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_ = h.Heal(ctx, c.HealSocket(), gluster.HealFull)
			})
			c.Eventually("all files are on the new brick", func() bool {
				full()
				for file := range written {
					var st unix.Stat_t
					if unix.Stat(filepath.Join(c.Pool.Bricks[2].Directory, "a/b", file), &st) != nil {
						return false
					}
				}
				return c.PendingHeals() == 0
			})
			// Without the first brick, reading needs the new one.
			if test.kind == schema.Disperse {
				bricks.Stop(c.Bricks[0])
			}
			again := c.Mount("again", volfile.Client)
			written.Verify(t, filepath.Join(again, "a/b"))
		})
	}
}
