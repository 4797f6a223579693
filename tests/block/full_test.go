package block

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/render/volfile"
)

// smallDisks gives each brick a disk of its own, of so many bytes, of which so many per cent
// are for GlusterFS itself.
func smallDisks(t *testing.T, bytes int64, reserve string) func(*volfile.Pool) {
	return func(p *volfile.Pool) {
		// Bricks that end themselves because they cannot write would be seen.
		p.Options = map[string]string{"storage.health-check-interval": "1", "storage.reserve": reserve}
		for _, b := range p.Bricks {
			image := b.Directory + ".img"
			f, err := os.Create(image)
			must(t, err)
			must(t, f.Truncate(bytes))
			f.Close()
			must(t, exec.Command("mkfs.xfs", "-q", image).Run())
			must(t, os.MkdirAll(b.Directory, 0o755))
			if out, err := exec.Command("mount", "-o", "loop", image, b.Directory).CombinedOutput(); err != nil {
				t.Fatalf("mounting %s: %v: %s", image, err, out)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(b.Directory, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// diskSize is that of a brick that is soon full, in bytes.
const diskSize = 600 << 20

// grow makes the disks of all bricks twice as large, while they are used.
func (c *cluster) grow() {
	c.t.Helper()
	for _, b := range c.bricks.Pool.Bricks {
		must(c.t, os.Truncate(b.Directory+".img", 2*diskSize))
		device, err := exec.Command("findmnt", "-no", "SOURCE", b.Directory).Output()
		must(c.t, err)
		for _, command := range [][]string{{"losetup", "-c", strings.TrimSpace(string(device))}, {"xfs_growfs", b.Directory}} {
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				c.t.Fatalf("%s: %v: %s", command, err, out)
			}
		}
	}
}

// TestPoolFull promises more than the disks have, and writes until they are full. It is an
// error of the writer, and no more: what was synced is there, and when there is room again
// the volume can be written, as it is or after it was staged anew.
func TestPoolFull(t *testing.T) {
	for name, p := range map[string]struct {
		reserve  string
		makeRoom func(c *cluster, filler string)
	}{
		"a volume is deleted": {"1", func(c *cluster, filler string) {
			must(c.t, c.nodes[0].give(filler))
			_, err := c.controller.DeleteVolume(c.t.Context(), deletion(filler))
			must(c.t, err)
		}},
		"the disks grow, full to the last block": {"0", func(c *cluster, _ string) { c.grow() }},
	} {
		t.Run(name, func(t *testing.T) { testPoolFull(t, p.reserve, p.makeRoom) })
	}
}

func testPoolFull(t *testing.T, reserve string, makeRoom func(c *cluster, filler string)) {
	c := startOn(t, smallDisks(t, diskSize, reserve), "a")
	a := c.nodes[0]
	filler := c.create("filler", "", 2<<30)
	raw := c.create("raw", "", 500<<20)
	files := c.create("files", "xfs", 500<<20)
	must(t, a.take(t.Context(), raw, ""))
	must(t, a.take(t.Context(), files, "xfs"))
	must(t, a.take(t.Context(), filler, ""))
	sums := map[string][32]byte{}
	add := func(n int) error {
		data := make([]byte, 1<<20)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		name := filepath.Join(a.target(files), fmt.Sprint(n))
		if err := writeSynced(name, data); err != nil {
			return err
		}
		sums[filepath.Base(name)] = sha256.Sum256(data)
		return nil
	}
	for n := range 20 {
		must(t, add(n))
	}
	w := startWriter("raw", a.target(raw), 500<<20)
	time.Sleep(time.Second)
	// Another volume takes all that is left.
	f, err := os.OpenFile(a.target(filler), os.O_RDWR|unix.O_DIRECT, 0)
	must(t, err)
	block, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	block[0] = 1 // not a hole
	wrote := int64(0)
	for ; ; wrote += 1 << 20 {
		if _, err = f.WriteAt(block, wrote); err == nil {
			err = f.Sync()
		}
		if err != nil {
			break
		}
	}
	f.Close()
	t.Logf("full after %d MiB of the filler: %v", wrote>>20, err)
	refusedFile := error(nil)
	for n := 20; n < 60 && refusedFile == nil; n++ {
		refusedFile = add(n)
	}
	time.Sleep(2 * time.Second)
	_, failed := w.counts()
	if refusedFile == nil || failed == 0 {
		t.Errorf("on a full pool: a file %v, %d pages refused", refusedFile, failed)
	}
	t.Logf("a file is refused with %v, %d pages of the raw volume", refusedFile, failed)
	makeRoom(c, filler)
	c.bricks.Eventually(30*time.Second, "there is room", func() bool {
		var st unix.Statfs_t
		return unix.Statfs(c.bricks.Pool.Bricks[0].Directory, &st) == nil && st.Bavail*uint64(st.Bsize) > 100<<20
	})
	before, _ := w.counts()
	begin := time.Now()
	c.bricks.Eventually(time.Minute, "the raw volume is written again", func() bool { // bricks look every five seconds
		after, _ := w.counts()
		return after > before+100
	})
	t.Logf("written again %s after there was room", time.Since(begin).Round(time.Second))
	w.finish()
	w.check(t, a.target(raw))
	must(t, a.give(raw))
	must(t, a.give(files))
	must(t, a.take(t.Context(), files, "xfs"))
	for name, sum := range sums {
		data, err := os.ReadFile(filepath.Join(a.target(files), name))
		if err != nil || sha256.Sum256(data) != sum {
			t.Errorf("file %s: %v", name, err)
		}
	}
	must(t, add(100))
	must(t, errors.Join(a.give(files), a.give(filler)))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Sync()
}
