package bench

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/tests/internal/report"
)

// writeTables writes the tables of docs/benchmarks.md for which everything was measured.
func writeTables(docs string) error {
	page := filepath.Join(docs, "benchmarks.md")
	for name, build := range map[string]func() string{
		"documents": documentsTable, "volumes": volumesTable,
		"restart": restartTable,
	} {
		table := build()
		if strings.Contains(table, missing) {
			continue // only a part was run
		}
		if err := report.Write(page, name, table); err != nil {
			return err
		}
	}
	return nil
}

// writeTable writes a table into a page of docs, if the sizes of the docs were measured.
func writeTable(t *testing.T, page, name, table string) {
	t.Helper()
	if *docsDir == "" || !*full {
		return
	}
	if err := report.Write(filepath.Join(*docsDir, page), name, table); err != nil {
		t.Fatal(err)
	}
}

// missing is in a table in place of a figure that was not measured.
const missing = "not measured"

// figure formats a figure of a benchmark.
func figure(format, benchmark, unit string) string {
	value, known := figures[benchmark][unit]
	if !known {
		return missing
	}
	return fmt.Sprintf(format, value)
}

func documentsTable() string {
	t := report.Head(1, "", "1,000 pools", "10,000 pools")
	row := func(title string, cell func(size string) string) { t.Row(title, cell("1000"), cell("10000")) }
	row("vet", func(n string) string { return figure("%.0f documents/s", "BenchmarkVet/"+n, "documents/s") })
	const beside = "BenchmarkVetBesideKubeconform/"
	row("kubeconform", func(n string) string { return figure("%.0f documents/s", beside+n, "kubeconform-documents/s") })
	row("ratio in one run", func(n string) string { return figure("%.1f", beside+n, "times-kubeconform") })
	row("vet, memory allocated per document", func(n string) string {
		return figure("%.0f kB", "BenchmarkVet/"+n, "kB/document") +
			figure(", %.0f allocations", "BenchmarkVet/"+n, "allocations/document")
	})
	row("render to YAML", func(n string) string {
		return figure("%.0f documents/s", "BenchmarkRender/"+n, "documents/s") +
			figure(", %.0f MB/s", "BenchmarkRender/"+n, "MB-of-YAML/s")
	})
	return t.String()
}

func volumesTable() string {
	t := report.Head(1, "Pool", "existing volumes", "callers", "create", "delete", "floor", "create / floor",
		"creates per second")
	for _, pool := range volumePools {
		for _, existing := range existingVolumes() {
			for _, callers := range volumeCallers {
				name := volumesBenchmark(pool, existing, callers)
				t.Row(string(pool.kind), fmt.Sprint(existing), fmt.Sprint(callers),
					figure("%.1f", name, "create-p50-ms"), figure("%.1f", name, "delete-p50-ms"),
					figure("%.1f", name, "floor-p50-ms"), figure("%.1f", name, "times-floor"),
					figure("%.0f", name, "creates/s"))
			}
		}
	}
	return t.String()
}

func restartTable() string {
	t := report.Head(1, "Pool", "first creation answered after", "plain walk", "resident memory")
	for _, pool := range volumePools {
		name := restartBenchmark(pool)
		t.Row(string(pool.kind), figure("%.1f s", name, "first-creation-s"), figure("%.0f s", name, "walk-s"),
			figure("%.0f MB", name, "resident-MB"))
	}
	return t.String()
}
