package apiserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pooltypes "github.com/atoll-storage/atoll/schema"
)

// settledPools counts pools whose objects have all been applied.
func (o *operated) settledPools(ctx context.Context) int {
	list, err := o.dynamic.Resource(storagePools).Namespace(pooltypes.DefaultNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return -1 // the server is away
	}
	n := 0
	for _, u := range list.Items {
		if status, is := u.Object["status"].(map[string]any); is && status["lastAppliedRevision"] != nil {
			n++
		}
	}
	return n
}

// whole holds that each of these pools has all its objects.
func (o *operated) whole(ctx context.Context, names []string) {
	o.t.Helper()
	sets, err := o.typed.AppsV1().StatefulSets(pooltypes.DefaultNamespace).List(ctx, metav1.ListOptions{})
	o.must(err)
	classes, err := o.typed.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	o.must(err)
	have := map[string]int{}
	for _, s := range sets.Items {
		have[s.Labels["atoll.storage/pool"]]++
	}
	for _, c := range classes.Items {
		have[c.Labels["atoll.storage/pool"]]++
	}
	for _, name := range names {
		if have[name] != 4 {
			o.t.Errorf("pool %s has %d bricks and classes, want 4", name, have[name])
		}
	}
}

// TestManyPools has a hundred pools, of which one is invalid and one is served by nobody.
func TestManyPools(t *testing.T) {
	o := operate(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	o.reconciler()
	begin := time.Now()
	var names []string
	for i := range 98 {
		names = append(names, fmt.Sprintf("p%d", i))
		o.must(o.put(poolText(names[i], 3, "")))
		switch i {
		case 10:
			o.must(o.put(`{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: wrong}, spec: {type: Replica3, bricks: [{node: a, path: /x}, {node: a, path: /y}, {node: b, path: /x}]}}`))
		case 20:
			o.must(o.put(`{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: far}, spec: {type: External, external: {hosts: [127.9.9.9], volume: v}}}`))
		}
	}
	o.eventually("all but the invalid one are applied", func() bool { return o.settledPools(ctx) == 99 })
	t.Logf("applied within %s", time.Since(begin).Round(time.Second/10))
	o.whole(ctx, names)
	o.conditioned("wrong", "Stalled", "InvalidSpec")
	o.conditioned("far", "Ready", "ExternalUnreachable")
}

// TestServersGo takes the API server, and then etcd, away while pools are being applied.
func TestServersGo(t *testing.T) {
	s := startServers(t)
	o := operateOn(t, s.config)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	o.reconciler("--max-retry-delay=2s")
	var names []string
	for round, server := range []string{"kube-apiserver", "etcd"} {
		for i := range 20 {
			name := fmt.Sprintf("p%d-%d", round, i)
			names = append(names, name)
			o.must(o.put(poolText(name, 3, "")))
		}
		o.eventually("some pools are applied", func() bool { return o.settledPools(ctx) > round*20 })
		s.end(server)
		time.Sleep(5 * time.Second)
		s.again(server)
		waitReady(t, s.config, s.dir)
		back := time.Now()
		o.eventually("all pools are applied", func() bool { return o.settledPools(ctx) == len(names) })
		t.Logf("%s was away; all is applied %s after it is back", server, time.Since(back).Round(time.Second))
		o.whole(ctx, names)
	}
}

// TestLeases has two reconcilers, of which one works, and the other when that is gone.
func TestLeases(t *testing.T) {
	o := operate(t)
	lease := []string{
		"--enable-leader-election", "--lease-namespace=" + pooltypes.DefaultNamespace,
		"--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s", "--leader-election-retry-period=1s",
	}
	works := func(p *process) bool {
		text, err := os.ReadFile(p.log)
		o.must(err)
		return strings.Contains(string(text), "Starting workers")
	}
	first := o.reconciler(lease...)
	o.eventually("the first one works", func() bool { return works(first) })
	second := o.reconciler(lease...)
	o.must(o.put(poolText("one", 3, "")))
	o.conditioned("one", "Ready", "BricksStarting")
	time.Sleep(5 * time.Second)
	if works(second) {
		t.Error("both work")
	}
	first.end(syscall.SIGKILL)
	o.must(o.put(poolText("two", 3, "")))
	o.conditioned("two", "Ready", "BricksStarting")
	// One that is stopped for a while, as on a node that hangs, gives up when it is back.
	third := o.reconciler(lease...)
	o.must(second.cmd.Process.Signal(syscall.SIGSTOP))
	o.eventually("the third one works", func() bool { return works(third) })
	o.must(second.cmd.Process.Signal(syscall.SIGCONT))
	ended := make(chan error, 1)
	go func() { ended <- second.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("one that has lost its lease goes on")
	}
	o.must(o.put(poolText("three", 3, "")))
	o.conditioned("three", "Ready", "BricksStarting")
}

// TestMetrics reads what is measured.
func TestMetrics(t *testing.T) {
	o := operate(t)
	address := fmt.Sprintf("127.0.0.1:%d", port(t))
	o.reconciler("--metrics-addr="+address, "--health-addr=127.0.0.1:0")
	o.must(o.put(poolText("fast", 3, "")))
	o.conditioned("fast", "Ready", "BricksStarting")
	ready := regexp.MustCompile(`gotk_reconcile_condition\{[^}]*kind="StoragePool"[^}]*name="fast"[^}]*status="False"[^}]*type="Ready"[^}]*\} 1`)
	measured := func() string {
		r, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return ""
		}
		defer r.Body.Close()
		all, err := io.ReadAll(r.Body)
		if err != nil {
			return ""
		}
		return string(all)
	}
	o.eventually("the condition is measured", func() bool { return ready.MatchString(measured()) })
	if !strings.Contains(measured(), "gotk_reconcile_duration_seconds_count") {
		t.Error("no durations")
	}
	o.must(o.dynamic.Resource(storagePools).Namespace(pooltypes.DefaultNamespace).Delete(t.Context(), "fast", metav1.DeleteOptions{}))
	o.eventually("nothing is measured of a pool that has gone", func() bool {
		text := measured()
		return text != "" && !strings.Contains(text, `gotk_reconcile_condition{kind="StoragePool",name="fast"`)
	})
}
