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

// smallDisks gives each brick a disk of some bytes, of which GlusterFS reserves a percentage.
func smallDisks(t *testing.T, bytes int64, reserve string) func(*volfile.Pool) {
	return func(p *volfile.Pool) {
		// Bricks check their disk every second, and must not end themselves because it is full.
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
				t.Fatalf("mount %s: %v: %s", image, err, out)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(b.Directory, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// diskSize is the size of a disk that is soon full, in bytes.
const diskSize = 600 << 20

// grow doubles the disks of all bricks in use.
func (c *cluster) grow() {
	c.t.Helper()
	for _, b := range c.bricks.Pool.Bricks {
		must(c.t, os.Truncate(b.Directory+".img", 2*diskSize))
		device, err := exec.Command("findmnt", "-no", "SOURCE", b.Directory).Output()
		must(c.t, err)
		for _, command := range [][]string{
			{"losetup", "-c", strings.TrimSpace(string(device))},
			{"xfs_growfs", b.Directory},
		} {
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				c.t.Fatalf("%s: %v: %s", command, err, out)
			}
		}
	}
}

// TestPoolFull provisions more than the disks have, and writes until they are full. Writers get
// errors, but nothing that was synced is lost, and with free space volumes can be written again,
// in use or staged again.
func TestPoolFull(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]struct {
		reserve  string
		makeRoom func(c *cluster, filler string)
	}{
		"a volume is deleted": {"1", func(c *cluster, filler string) {
			must(c.t, c.nodes[0].unpublish(filler))
			must(c.t, c.deleted(c.t.Context(), filler))
		}},
		"the disks grow, full to the last block": {"0", func(c *cluster, _ string) { c.grow() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testPoolFull(t, p.reserve, p.makeRoom)
		})
	}
}

func testPoolFull(t *testing.T, reserve string, makeRoom func(c *cluster, filler string)) {
	c := startOn(t, smallDisks(t, diskSize, reserve), "a")
	a := c.nodes[0]
	filler := c.create("filler", "", 2<<30)
	raw := c.create("raw", "", 500<<20)
	files := c.create("files", "xfs", 500<<20)
	must(t, a.publish(raw, ""))
	must(t, a.publish(files, "xfs"))
	must(t, a.publish(filler, ""))
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
	w.progress(t, 100)
	// Another volume fills the disks.
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
	if refusedFile == nil {
		t.Error("files were written to a full pool")
	}
	w.refusals(t, 1)
	t.Logf("a file was refused with %v; %s", refusedFile, w.state())
	makeRoom(c, filler)
	c.bricks.Eventually("the disk of the first brick has free space", func() bool {
		var st unix.Statfs_t
		return unix.Statfs(c.bricks.Pool.Bricks[0].Directory, &st) == nil && st.Bavail*uint64(st.Bsize) > 100<<20
	})
	begin := time.Now()
	w.progress(t, 100) // bricks check their free space every five seconds
	t.Logf("the raw volume was written %s after there was free space", time.Since(begin).Round(time.Second))
	w.finish()
	w.check(t, a.target(raw))
	if t.Failed() {
		logBricks(c, raw, w)
	}
	must(t, a.unpublish(raw))
	must(t, a.unpublish(files))
	must(t, a.publish(files, "xfs"))
	for name, sum := range sums {
		data, err := os.ReadFile(filepath.Join(a.target(files), name))
		if err != nil || sha256.Sum256(data) != sum {
			t.Errorf("file %s: %v", name, err)
		}
	}
	must(t, add(100))
	must(t, errors.Join(a.unpublish(files), a.unpublish(filler)))
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

// logBricks logs which acknowledged pages are missing on which bricks, and whom the bricks blame.
func logBricks(c *cluster, volume string, w *writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, b := range c.bricks.Pool.Bricks {
		name := volume[strings.LastIndexByte(volume, '.')+1:]
		files, _ := filepath.Glob(filepath.Join(b.Directory, "blocks/volumes/*/*", name))
		for _, file := range files {
			f, err := os.Open(file)
			must(c.t, err)
			lost, p := map[int64]string{}, make([]byte, page)
			for at, n := range w.acked {
				if _, err := f.ReadAt(p, at*page); err != nil || numberOf(p) < n {
					lost[at] = fmt.Sprintf("want %d, have %d, %v", n, numberOf(p), err)
				}
			}
			f.Close()
			blames := []int{}
			for j := range c.bricks.Pool.Bricks {
				name, _ := filepath.Rel(b.Directory, file)
				if c.bricks.Blames(i, j, name) {
					blames = append(blames, j)
				}
			}
			var st unix.Statfs_t
			_ = unix.Statfs(b.Directory, &st)
			c.t.Logf("brick %d (%d MiB free) blames %v, and lacks %v", i, st.Bavail*uint64(st.Bsize)>>20, blames, lost)
		}
	}
}
