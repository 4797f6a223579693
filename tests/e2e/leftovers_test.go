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

// checkNoLeftovers verifies that nothing of volumes is left on any brick of a pool: no file,
// no directory of a volume, nothing in the trash, and no inode that is only in .glusterfs.
func (e *env) checkNoLeftovers(pool string) {
	e.Helper()
	e.waitEmpty(e.bricks(pool)...)
}

// waitEmpty waits until bricks, given as paths on this host, have no leftovers.
func (e *env) waitEmpty(bricks ...string) {
	e.Helper()
	e.eventually(time.Minute, "bricks are empty", func() error {
		for _, b := range bricks {
			if left := remainingOn(b); len(left) > 0 {
				return fmt.Errorf("%d entries on %s: %s", len(left), b, strings.Join(left[:min(len(left), 5)], ", "))
			}
		}
		return nil
	})
}

// bricks returns the paths of a pool's bricks on this host.
func (e *env) bricks(pool string) []string {
	e.Helper()
	var found []string
	for n := 1; n <= e.Nodes; n++ {
		root, err := e.NodeRoot(n)
		if err != nil {
			e.Fatal(err)
		}
		for _, pattern := range []string{
			"/var/lib/atoll/bricks/atoll-system." + pool + ".*/data/brick",
			"/srv/" + pool + "/data/brick", "/srv/" + pool + "/brick",
		} {
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

// remainingOn lists the entries of a brick that an empty one does not have.
func remainingOn(brick string) []string {
	var left []string
	err := filepath.WalkDir(brick, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // deleted meanwhile
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
