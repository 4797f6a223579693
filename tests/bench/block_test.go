package bench

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	csicatalog "github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/report"
)

// place is a directory that is measured.
type place struct{ name, dir string }

// variant is a way to make a block volume.
type variant struct {
	name, fileSystem string
	options          map[string]string
	flags            uint32
	shard            string // shard size of the file; block files of pools are not sharded: ADR 0015
}

var variants = []variant{
	{"block, xfs", filesystem.XFS, nil, loop.DirectIO, ""},
	{"block, ext4", filesystem.Ext4, nil, loop.DirectIO, ""},
	{
		"block, xfs, write-behind off", filesystem.XFS,
		map[string]string{"performance.write-behind": "off"},
		loop.DirectIO, "",
	},
	{"block, xfs, through the page cache", filesystem.XFS, nil, 0, ""},
	{"block, xfs, shards of 4 MB", filesystem.XFS, nil, loop.DirectIO, "4MB"},
	{"block, xfs, shards of 16 MB", filesystem.XFS, nil, loop.DirectIO, "16MB"},
	{"block, xfs, shards of 64 MB", filesystem.XFS, nil, loop.DirectIO, "64MB"},
	{"block, xfs, shards of 256 MB", filesystem.XFS, nil, loop.DirectIO, "256MB"},
}

const blockSize = 2 << 30 // of the volumes, in bytes

// For one workload: 'go test -tags bench -run TestBlocks -v . -full -rounds 1 -workloads pgbench'.
var (
	rounds    = flag.Int("rounds", 3, "rounds of TestBlocks with -full")
	measuring = flag.String("workloads", "",
		"regular expression for the names of the workloads that TestBlocks measures")
)

// TestBlocks measures the bare disk, a subdirectory and block volumes, interleaved.
func TestBlocks(t *testing.T) {
	c := bricks.Start(t, schema.Replica3, 3, nil)
	places := []place{{"bare disk", t.TempDir()}, {"subdirectory", c.Mount("files", volfile.Client)}}
	if err := os.Chmod(places[1].dir, 0o755); err != nil { // the database has a user of its own
		t.Fatal(err)
	}
	for i, v := range pick(variants, variants[:1]) {
		places = append(places, place{v.name, attach(t, c, i, v)})
	}
	chosen, err := regexp.Compile(*measuring)
	if err != nil {
		t.Fatal(err)
	}
	r := &results{rates: map[string]map[string][]float64{}}
	for _, w := range workloads {
		if chosen.MatchString(w.name) {
			takeTurns(t, r, w, places)
		}
	}
	t.Log("\n" + r.table(places))
	if *docsDir == "" || !*full || *measuring != "" {
		return
	}
	writeTable(t, "block-volumes.md", "speed", r.table(places))
	plot(t, filepath.Join(*docsDir, "block-volumes.svg"), r)
}

// takeTurns measures a workload at all places, interleaved.
func takeTurns(t *testing.T, r *results, w workload, places []place) {
	t.Helper()
	r.names = append(r.names, w.name)
	r.rates[w.name] = map[string][]float64{}
	for round := range pick(*rounds, 1) {
		for i, p := range places {
			if w.first > 0 && i >= w.first {
				break
			}
			dir := filepath.Join(p.dir, fmt.Sprintf("%d", round))
			if err := os.MkdirAll(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			got, err := w.run(dir)
			if err != nil {
				t.Fatalf("%s on %s: %v", w.name, p.name, err)
			}
			r.rates[w.name][p.name] = append(r.rates[w.name][p.name], got)
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// results are rates by workload and place.
type results struct {
	names []string // of workloads, in order
	rates map[string]map[string][]float64
}

// ratio is the median rate of a place over that of a subdirectory.
func (r *results) ratio(workload, place string) (ratio float64, known bool) {
	rates := r.rates[workload][place]
	if rates == nil {
		return 0, false
	}
	return median(rates) / median(r.rates[workload]["subdirectory"]), true
}

func (r *results) table(places []place) string {
	t := report.Head(1, append([]string{""}, r.names...)...)
	for _, p := range places {
		row := []string{p.name}
		for _, n := range r.names {
			cell := ""
			if ratio, known := r.ratio(n, p.name); known {
				cell = fmt.Sprintf("%.4g (%.2g)", median(r.rates[n][p.name]), ratio)
			}
			row = append(row, cell)
		}
		t.Row(row...)
	}
	return t.String()
}

func median(all []float64) float64 {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// attach makes a block volume as the driver does, and mounts it.
func attach(t *testing.T, c *bricks.Cluster, i int, v variant) string {
	t.Helper()
	folder := csicatalog.Folder{Dir: t.TempDir()}
	c.Pool.Options = v.options
	c.Catalog(folder, schema.Block)
	dir := t.TempDir()
	clients, err := mounts.New(filepath.Join(dir, "mounts"), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	p, err := folder.Pool("p")
	if err != nil {
		t.Fatal(err)
	}
	p.Blocks = sharded(t, p.Blocks, v.shard)
	root, err := clients.Root(context.Background(), p, schema.Block)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(root, fmt.Sprintf("block-%d", i)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(blockSize); err != nil {
		t.Fatal(err)
	}
	if err := ofd.Lock(f); err != nil {
		t.Fatal(err)
	}
	device, err := loop.Attach(f, v.flags|loop.AutoClear)
	if err != nil {
		t.Fatal(err)
	}
	if err := filesystem.Make(t.Context(), device, v.fileSystem, ""); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "target")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	at, err := os.OpenFile(target, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if err := filesystem.Mount(device.Name(), v.fileSystem, nil, at, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
		device.Close()
		f.Close()
		clients.Close()
	})
	return target
}

// sharded inserts features/shard above cluster/distribute, as glusterd does.
func sharded(t *testing.T, graph, size string) string {
	t.Helper()
	if size == "" {
		return graph
	}
	const above = "volume p-utime\n"
	before, after, found := strings.Cut(graph, above)
	if !found || !strings.Contains(after, "subvolumes p-dht") {
		t.Fatalf("the graph for block volumes has changed:\n%s", graph)
	}
	shard := "volume p-shard\n    type features/shard\n    option shard-block-size " + size +
		"\n    subvolumes p-dht\nend-volume\n\n"
	return before + shard + above + strings.Replace(after, "subvolumes p-dht", "subvolumes p-shard", 1)
}

// workload measures a rate: more is better. Long workloads are run at the first places only.
type workload struct {
	name  string
	run   func(dir string) (float64, error)
	first int // how many places; 0 is all
}

var workloads = []workload{
	{"untar and sync, files/s", untar, 0},
	{"create and fsync, files/s", func(dir string) (float64, error) {
		files := pick(300, 20)
		return rate(files, func(i int) error { return written(filepath.Join(dir, fmt.Sprint(i)), 4<<10) })
	}, 0},
	{"4 KiB random, fdatasync each, /s", func(dir string) (float64, error) { return random(dir, unix.Fdatasync) }, 0},
	{"4 KiB random, fsync each, /s", func(dir string) (float64, error) { return random(dir, unix.Fsync) }, 0},
	{"4 KiB random, fsync each, sixteen writers, /s", together, 0},
	{"1 MiB sequential write and fsync, MB/s", sequential, 0},
	{"1 MiB sequential read, MB/s", readBack, 0},
	{"pgbench, transactions/s", pgbench, 3}, // on the bare disk, a subdirectory, and a block volume
}

func rate(n int, do func(i int) error) (float64, error) {
	begin := time.Now()
	for i := range n {
		if err := do(i); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

func written(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, size)); err != nil {
		return err
	}
	return f.Sync()
}

// untar unpacks small files, and syncs the file system.
func untar(dir string) (float64, error) {
	files := pick(2000, 100)
	archive := filepath.Join(os.TempDir(), fmt.Sprintf("bench-%d.tar", os.Getpid()))
	if _, err := os.Stat(archive); err != nil {
		from, err := os.MkdirTemp("", "tar-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(from)
		for i := range files {
			sub := filepath.Join(from, fmt.Sprint(i%20))
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return 0, err
			}
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), make([]byte, 1+i%8192), 0o644); err != nil {
				return 0, err
			}
		}
		if out, err := exec.Command("tar", "-C", from, "-cf", archive, ".").CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
	}
	begin := time.Now()
	if out, err := exec.Command("tar", "-C", dir, "-xf", archive).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	if out, err := exec.Command("sync", "-f", dir).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return float64(files) / time.Since(begin).Seconds(), nil
}

// random overwrites pages of an existing file.
func random(dir string, sync func(int) error) (float64, error) {
	size, writes := pick(64<<20, 4<<20), pick(500, 20)
	path := filepath.Join(dir, "random")
	if err := written(path, size); err != nil {
		return 0, err
	}
	return overwrite(path, int64(size), writes, sync)
}

func overwrite(path string, size int64, writes int, sync func(int) error) (float64, error) {
	const page = 4096
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	data := make([]byte, page)
	return rate(writes, func(i int) error {
		data[0] = byte(i)
		if _, err := f.WriteAt(data, rand.Int64N(size/page)*page); err != nil {
			return err
		}
		return sync(int(f.Fd()))
	})
}

// together overwrites pages of many files, with a writer each, and returns the rate of all of them.
func together(dir string) (float64, error) {
	const writers, size = 16, 8 << 20
	writes := pick(100, 5)
	path := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	for i := range writers {
		if err := written(path(i), size); err != nil {
			return 0, err
		}
	}
	var all errgroup.Group
	begin := time.Now()
	for i := range writers {
		all.Go(func() error {
			_, err := overwrite(path(i), size, writes, unix.Fsync)
			return err
		})
	}
	err := all.Wait()
	return float64(writers*writes) / time.Since(begin).Seconds(), err
}

func sequentialSize() int { return pick(256<<20, 8<<20) }

func sequential(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "sequential"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return through(f.Write, f.Sync)
}

// readBack reads a file that is not in the page cache.
func readBack(dir string) (float64, error) {
	if _, err := sequential(dir); err != nil {
		return 0, err
	}
	if *full { // this slows down everything else on the machine
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
			return 0, err
		}
	}
	f, err := os.Open(filepath.Join(dir, "sequential"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return through(f.Read, func() error { return nil })
}

// through returns the rate of steps of 1 MiB, in MB/s.
func through(step func([]byte) (int, error), end func() error) (float64, error) {
	data := make([]byte, 1<<20)
	begin := time.Now()
	for range sequentialSize() / len(data) {
		if _, err := step(data); err != nil {
			return 0, err
		}
	}
	if err := end(); err != nil {
		return 0, err
	}
	return float64(sequentialSize()) / 1e6 / time.Since(begin).Seconds(), nil
}
