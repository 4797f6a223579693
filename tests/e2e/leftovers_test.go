package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// leftovers holds that nothing of volumes is left on any brick of a pool: no file, no
// folder of a volume, nothing in the trash, and no inode that only GlusterFS names.
func (e *env) leftovers(pool string) {
	e.Helper()
	e.empty(e.bricks(pool)...)
}

// empty waits until bricks, paths on this host, have nothing of volumes.
func (e *env) empty(bricks ...string) {
	e.Helper()
	e.eventually(time.Minute, "bricks are empty", func() error {
		for _, b := range bricks {
			if left := leftOn(b); len(left) > 0 {
				return fmt.Errorf("%d entries on %s: %s", len(left), b, strings.Join(left[:min(len(left), 5)], ", "))
			}
		}
		return nil
	})
}

// bricks are paths of a pool's bricks, on this host.
func (e *env) bricks(pool string) []string {
	e.Helper()
	var found []string
	for n := 1; n <= e.Nodes; n++ {
		root, err := e.NodeRoot(n)
		if err != nil {
			e.Fatal(err)
		}
		for _, pattern := range []string{"/var/lib/atoll/bricks/atoll-system." + pool + ".*/data/brick", "/srv/" + pool + "/data/brick", "/srv/" + pool + "/brick"} {
			all, err := filepath.Glob(root + pattern)
			if err != nil {
				e.Fatal(err)
			}
			found = append(found, all...)
		}
	}
	want := e.kubectl("get", "statefulset", "-n", "atoll-system", "-l", "atoll.storage/pool="+pool, "-o", "name")
	if strings.Count(want, "\n") != len(found) {
		e.Fatalf("found bricks %s of pool %s, which has %s", found, pool, want)
	}
	return found
}

// leftOn lists what is on a brick that no empty one has.
func leftOn(brick string) []string {
	var left []string
	err := filepath.WalkDir(brick, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it goes just now
			}
			return err
		}
		rel := strings.TrimPrefix(p, brick+"/")
		parts := strings.Split(rel, "/")
		info, err := d.Info()
		if err != nil {
			return nil
		}
		switch {
		case parts[0] == ".glusterfs":
			handle := len(parts) == 4 && len(parts[1]) == 2 && len(parts[2]) == 2
			if handle && info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink == 1 {
				left = append(left, rel)
			}
		case info.Mode().IsRegular(),
			parts[0] == "subvol" && len(parts) == 4,
			strings.HasPrefix(rel, ".atoll/trash/"),
			strings.HasPrefix(rel, ".shard/"):
			left = append(left, rel)
		}
		return nil
	})
	if err != nil {
		left = append(left, err.Error())
	}
	return left
}
