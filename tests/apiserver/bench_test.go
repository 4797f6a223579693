package apiserver

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/atoll-storage/atoll/tests/internal/report"
)

var (
	full    = flag.Bool("full", false, "run TestConverge with the sizes of docs/benchmarks.md")
	docsDir = flag.String("report", "", "directory with the pages of docs into which the table is written; needs -full")
)

// TestConverge measures how fast the reconciler applies many pools, beside Flux's applier: 100 and
// 1,000 in 'make bench', and a few otherwise.
func TestConverge(t *testing.T) {
	sizes, idle := []int{5}, 2*time.Second
	if *full {
		sizes, idle = []int{100, 1000}, time.Minute
	}
	baseline := measureFlux(t, sizes[0])
	var results []converged
	for _, n := range sizes {
		results = append(results, measureReconciler(t, n, idle))
		t.Logf("%+v; Flux: %.0f objects/s", results[len(results)-1], baseline)
	}
	if *full && *docsDir != "" {
		if err := report.Write(filepath.Join(*docsDir, "benchmarks.md"), "pools",
			poolsTable(results, baseline)); err != nil {
			t.Fatal(err)
		}
	}
}

// poolsTable is the table of docs/benchmarks.md.
func poolsTable(results []converged, baseline float64) string {
	titles := []string{""}
	for _, r := range results {
		titles = append(titles, fmt.Sprintf("%d pools", r.pools))
	}
	table := report.Head(1, titles...)
	row := func(title string, cell func(converged) string) {
		cells := []string{title}
		for _, r := range results {
			cells = append(cells, cell(r))
		}
		table.Row(cells...)
	}
	row("all applied after", func(r converged) string { return fmt.Sprintf("%.1f s", r.took.Seconds()) })
	row("objects/s", func(r converged) string { return fmt.Sprintf("%.0f", r.rate()) })
	row(fmt.Sprintf("ratio to the baseline (%.0f objects/s)", baseline),
		func(r converged) string { return fmt.Sprintf("%.1f", r.rate()/baseline) })
	row("all pools checked once, nothing to do: CPU",
		func(r converged) string { return fmt.Sprintf("%.2f s", r.idleCPU.Seconds()) })
	row("requests for that", func(r converged) string { return strconv.Itoa(r.idleRequests) })
	row("resident memory", func(r converged) string { return fmt.Sprintf("%.0f MB", float64(r.resident)/1000) })
	return table.String()
}

// converged is what was measured with some pools.
type converged struct {
	pools        int
	took         time.Duration // until all were applied
	idleCPU      time.Duration // to check them once
	idleRequests int
	resident     int // kB
}

// rate is the objects per second that were applied.
func (c converged) rate() float64 { return float64(c.pools*objectsEach) / c.took.Seconds() }

// objectsEach is the number of objects of a pool of three bricks, including its inventory.
const objectsEach = 9

// measureFlux applies pools as kustomize-controller does by default, four at a time, and returns
// the objects per second.
func measureFlux(t *testing.T, n int) float64 {
	config := start(t)
	o := &testEnv{cluster: connect(t, config), config: config}
	f := newFlux(o)
	all := make([][]*unstructured.Unstructured, n)
	objects := 0
	for i := range n {
		all[i] = renderText(t, poolText(fmt.Sprintf("p%d", i), 3, ""))
		objects += len(all[i])
	}
	begin := time.Now()
	limit := make(chan struct{}, 4)
	var wait sync.WaitGroup
	for _, pool := range all {
		wait.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			if _, err := f.manager.ApplyAllStaged(t.Context(), pool, ssa.DefaultApplyOptions()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	rate := float64(objects) / time.Since(begin).Seconds()
	t.Logf("fluxcd/pkg/ssa with defaults, four at a time: %d pools, %.0f objects/s", n, rate)
	return rate
}

// measureReconciler has the reconciler apply pools, and then check them for as long as idle.
func measureReconciler(t *testing.T, n int, idle time.Duration) converged {
	o := newTestEnv(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for i := range n {
		o.must(o.put(poolText(fmt.Sprintf("p%d", i), 3, "")))
	}
	address := fmt.Sprintf("127.0.0.1:%d", port(t))
	begin := time.Now()
	p := o.startReconciler("--metrics-addr="+address, "--log-level=error", "--bricks-interval="+(2*idle).String())
	for o.countApplied(ctx) < n && ctx.Err() == nil {
		time.Sleep(time.Duration(n) * 4 * time.Millisecond) // listing pools loads the server too
	}
	c := converged{pools: n, took: time.Since(begin)}
	time.Sleep(5 * time.Second) // until the last events are written and watched
	cpu, before := cpuTime(t, p), requests(t, address)
	time.Sleep(idle)
	for labels, count := range requests(t, address) {
		c.idleRequests += count - before[labels]
	}
	c.idleCPU, c.resident = cpuTime(t, p)-cpu, resident(t, p)
	return c
}

// cpuTime returns the CPU time of the reconciler (proc(5), stat: fields 14 and 15, in ticks;
// Linux has 100 a second).
func cpuTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident returns the resident memory of the reconciler in kB.
func resident(t *testing.T, p *process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`VmRSS:\s*([0-9]+) kB`).FindSubmatch(text)
	if found == nil {
		t.Fatal("/proc/PID/status has no VmRSS")
	}
	kB, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kB
}

// requests returns the number of requests from the reconciler to the API server, by method
// and code.
func requests(t *testing.T, address string) map[string]int {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	total := regexp.MustCompile(`(?m)^rest_client_requests_total(\{.*\}) (\d+)`)
	for _, m := range total.FindAllStringSubmatch(string(text), -1) {
		all[m[1]], _ = strconv.Atoi(m[2])
	}
	return all
}
