// Package bench measures vet and render on many pools, beside kubeconform on the same files, the
// driver and volumes on real bricks. It is a separate module because of what it compares with.
//
// Without -full it runs everything once with small sizes, to keep the benchmarks from breaking.
package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/atoll-storage/atoll/tests/internal/sandbox"
)

var (
	full    = flag.Bool("full", false, "measure with the sizes of docs/benchmarks.md")
	docsDir = flag.String("report", "", "directory with the pages of docs into which tables are written; needs -full")
)

// suite runs the benchmarks and writes their tables.
type suite struct{ *testing.M }

func TestMain(m *testing.M) { os.Exit(sandbox.Run(suite{m})) }

// Run is m.Run with the tables.
func (s suite) Run() int {
	code := s.M.Run()
	if code != 0 || *docsDir == "" || !*full {
		return code
	}
	if err := writeTables(*docsDir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return code
}

// pick returns the measured sizes, or small ones.
func pick[T any](measured, small T) T {
	if *full {
		return measured
	}
	return small
}

// figures are measured values by benchmark and unit.
var figures = map[string]map[string]float64{}

// measured reports a figure of a benchmark, and keeps it for the tables.
func measured(b *testing.B, value float64, unit string) {
	b.ReportMetric(value, unit)
	if figures[b.Name()] == nil {
		figures[b.Name()] = map[string]float64{}
	}
	figures[b.Name()][unit] = value
}
