package bench

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/yannh/kubeconform/pkg/validator"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema/definition"
	"github.com/atoll-storage/atoll/schema/loader"
)

// sizes are the numbers of pools.
func sizes() []int { return pick([]int{1000, 10000}, []int{60}) }

// corpus writes n pools of all types, one file each, and returns their directory and their size in
// bytes.
func corpus(b *testing.B, n int) (dir string, size int64) {
	b.Helper()
	dir = b.TempDir()
	for i := range n {
		team := filepath.Join(dir, fmt.Sprintf("team-%03d", i/100))
		if err := os.MkdirAll(team, 0o755); err != nil {
			b.Fatal(err)
		}
		text := document(i)
		size += int64(len(text))
		if err := os.WriteFile(filepath.Join(team, fmt.Sprintf("pool-%05d.yaml", i)), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return dir, size
}

// document is the i-th pool.
func document(i int) string {
	kinds := []string{"Replica1", "Replica2", "Replica3", "Arbiter", "Disperse", "External"}
	kind := kinds[i%len(kinds)]
	var b strings.Builder
	fmt.Fprintf(&b,
		"# Pool %d of the benchmark.\napiVersion: atoll.storage/v1alpha1\nkind: StoragePool\nmetadata:\n  name: pool-%05d\n  labels: {team: team-%03d}\nspec:\n  type: %s\n", i, i, i/100, kind)
	if kind == "External" {
		fmt.Fprintf(&b,
			"  external:\n    hosts: [gluster1.example.org, gluster2.example.org]\n    volume: vol%d\n    options: [log-level=INFO]\n", i)
		return b.String()
	}
	bricks := map[string]int{"Replica1": 1, "Replica2": 2, "Replica3": 6, "Arbiter": 3, "Disperse": 6}[kind]
	b.WriteString("  bricks:\n")
	for j := range bricks {
		fmt.Fprintf(&b, "  - {node: kube%d, device: /dev/disk/by-id/ata-disk-%05d-%d}\n", j, i, j)
	}
	if kind == "Disperse" {
		b.WriteString("  disperse: {data: 4, redundancy: 2}\n")
	}
	if kind != "Disperse" { // there, vet warns about block volumes
		b.WriteString("  volumes: [Subdirectory, Block]\n")
	}
	b.WriteString("  reclaim: Archive\n  options:\n    performance.quick-read: \"off\"\n    network.ping-timeout: \"10\"\n")
	fmt.Fprintf(&b,
		"  storageClasses:\n  - {name: class-%05d, bindingMode: WaitForFirstConsumer}\n  resources:\n    requests: {cpu: 500m, memory: 1Gi}\n", i)
	return b.String()
}

// oneCore limits a benchmark to one core: its figures are per core.
func oneCore(b *testing.B) {
	before := runtime.GOMAXPROCS(1)
	b.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

func vet(b *testing.B, dir string, n int) *loader.Result {
	b.Helper()
	r, err := loader.Load(context.Background(), loader.Options{}, dir)
	if err != nil || len(r.Documents) != n || len(r.Diagnostics) > 0 {
		b.Fatalf("%d documents of %d, %d diagnostics, first %v; %v", len(r.Documents), n, len(r.Diagnostics),
			r.Diagnostics[:min(1, len(r.Diagnostics))], err)
	}
	return r
}

// BenchmarkVet checks all files: the structure of documents, and rules between pools.
func BenchmarkVet(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, size := corpus(b, n)
			oneCore(b)
			b.SetBytes(size)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				vet(b, dir, n)
			}
			runtime.ReadMemStats(&after)
			documents := float64(n) * float64(b.N)
			measured(b, documents/b.Elapsed().Seconds(), "documents/s")
			measured(b, float64(after.TotalAlloc-before.TotalAlloc)/1e3/documents, "kB/document")
			measured(b, float64(after.Mallocs-before.Mallocs)/documents, "allocations/document")
		})
	}
}

// BenchmarkRender renders and prints all pools.
func BenchmarkRender(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, _ := corpus(b, n)
			r := vet(b, dir, n)
			oneCore(b)
			written := 0
			for b.Loop() {
				written = 0
				for _, d := range r.Documents {
					objects, err := render.Render(d.Pool, render.Options{})
					if err != nil {
						b.Fatal(err)
					}
					text, err := render.YAML(objects)
					if err != nil {
						b.Fatal(err)
					}
					written += len(text)
				}
			}
			measured(b, float64(n)*float64(b.N)/b.Elapsed().Seconds(), "documents/s")
			measured(b, float64(written)*float64(b.N)/1e6/b.Elapsed().Seconds(), "MB-of-YAML/s")
		})
	}
}

// BenchmarkVetBesideKubeconform interleaves vet with kubeconform, which checks only the structure of
// documents, by the JSON schema that is generated from the same CUE. The ratio is vet's documents
// per second over kubeconform's.
func BenchmarkVetBesideKubeconform(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, _ := corpus(b, n)
			location := schemaFile(b)
			oneCore(b)
			var ours, theirs time.Duration
			for b.Loop() {
				begin := time.Now()
				vet(b, dir, n)
				ours += time.Since(begin)
				begin = time.Now()
				kubeconform(b, dir, location, n)
				theirs += time.Since(begin)
			}
			documents := float64(n) * float64(b.N)
			measured(b, documents/ours.Seconds(), "documents/s")
			measured(b, documents/theirs.Seconds(), "kubeconform-documents/s")
			measured(b, theirs.Seconds()/ours.Seconds(), "times-kubeconform")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// schemaFile writes the JSON schema into a file for kubeconform.
func schemaFile(b *testing.B) string {
	b.Helper()
	text, err := definition.JSONSchema()
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "storagepool.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func kubeconform(b *testing.B, dir, location string, n int) {
	b.Helper()
	v, err := validator.New([]string{location}, validator.Opts{Strict: true})
	if err != nil {
		b.Fatal(err)
	}
	valid := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		for _, r := range v.Validate(path, f) { // closes the file
			if r.Status != validator.Valid {
				return fmt.Errorf("%s: %v %w", path, r.Status, r.Err)
			}
			valid++
		}
		return nil
	})
	if err != nil || valid != n {
		b.Fatalf("kubeconform: %d of %d valid: %v", valid, n, err)
	}
}
