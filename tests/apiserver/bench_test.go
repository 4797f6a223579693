//go:build bench

package apiserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestConverge measures 100 and 1,000 pools; make bench runs it.
func TestConverge(t *testing.T) {
	baseline := measureFlux(t, 100)
	for _, n := range []int{100, 1000} {
		measureReconciler(t, n, baseline)
	}
}

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

func measureReconciler(t *testing.T, n int, baseline float64) {
	o := newTestEnv(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for i := range n {
		o.must(o.put(poolText(fmt.Sprintf("p%d", i), 3, "")))
	}
	const idle = 60 * time.Second
	address := fmt.Sprintf("127.0.0.1:%d", port(t))
	begin := time.Now()
	p := o.startReconciler("--metrics-addr="+address, "--log-level=error", "--bricks-interval="+(2*idle).String())
	for o.countApplied(ctx) < n && ctx.Err() == nil {
		time.Sleep(time.Duration(n) * 4 * time.Millisecond) // listing pools loads the server too
	}
	took := time.Since(begin)
	rate := float64(n*objectsEach) / took.Seconds()
	t.Logf("%d pools: all applied after %s, %.0f objects/s, %.1f times those of the baseline; %s", n,
		took.Round(time.Second/10), rate, rate/baseline, resident(t, p))
	time.Sleep(5 * time.Second) // until the last events are written and watched
	cpu, before := cpuTime(t, p), requests(t, address)
	time.Sleep(idle)
	all := 0
	for labels, count := range requests(t, address) {
		all += count - before[labels]
	}
	t.Logf("%d pools, each checked once in %s with nothing to do: %s of CPU, %d requests; %s", n, idle,
		cpuTime(t, p)-cpu, all, resident(t, p))
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

func resident(t *testing.T, p *process) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(regexp.MustCompile(`VmRSS:.*`).FindString(string(text))), " ")
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
