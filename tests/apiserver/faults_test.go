package apiserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pooltypes "github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// countApplied counts pools whose objects are all applied.
func (o *testEnv) countApplied(ctx context.Context) int {
	list, err := o.dynamic.Resource(storagePools).Namespace(pooltypes.DefaultNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return -1 // the server is down
	}
	n := 0
	for _, u := range list.Items {
		if status, is := u.Object["status"].(map[string]any); is && status["lastAppliedRevision"] != nil {
			n++
		}
	}
	return n
}

// checkComplete checks that each of these pools has all its objects.
func (o *testEnv) checkComplete(ctx context.Context, names []string) {
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

// TestManyPools reconciles a hundred pools, one of them invalid and one of them unreachable.
func TestManyPools(t *testing.T) {
	o := newTestEnv(t)
	ctx := t.Context()
	o.startReconciler()
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
	o.eventually("all but the invalid one are applied", func() bool { return o.countApplied(ctx) == 99 })
	t.Logf("applied within %s", time.Since(begin).Round(time.Second/10))
	o.checkComplete(ctx, names)
	o.waitCondition("wrong", "Stalled", "InvalidSpec")
	o.waitCondition("far", "Ready", "ExternalUnreachable")
}

// TestServerOutage kills the API server, and then etcd, while pools are being applied.
func TestServerOutage(t *testing.T) {
	s := startServers(t)
	o := newTestEnvOn(t, s.config)
	ctx := t.Context()
	p := o.startReconciler("--max-retry-delay=2s")
	var names []string
	for round, server := range []string{"kube-apiserver", "etcd"} {
		for i := range 20 {
			name := fmt.Sprintf("p%d-%d", round, i)
			names = append(names, name)
			o.must(o.put(poolText(name, 3, "")))
		}
		o.eventually("some pools are applied", func() bool { return o.countApplied(ctx) > round*20 })
		before := len(p.logged())
		s.kill(server)
		o.eventually("the reconciler has noticed", func() bool {
			return strings.Contains(p.logged()[before:], `"level":"error"`)
		})
		s.launch(server)
		waitReady(t, s.config, s.dir)
		restarted := time.Now()
		o.eventually("all pools are applied", func() bool { return o.countApplied(ctx) == len(names) })
		t.Logf("%s was down; all pools are applied %s after its restart", server,
			time.Since(restarted).Round(time.Second))
		o.checkComplete(ctx, names)
	}
}

// TestLeaderElection runs several reconcilers: only one is active, and another replaces it
// when it ends or hangs.
func TestLeaderElection(t *testing.T) {
	o := newTestEnv(t)
	lease := []string{
		"--enable-leader-election", "--lease-namespace=" + pooltypes.DefaultNamespace,
		"--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s",
		"--leader-election-retry-period=1s",
	}
	active := func(p *process) bool {
		return strings.Contains(p.logged(), "Starting workers")
	}
	first := o.startReconciler(lease...)
	o.eventually("the first is active", func() bool { return active(first) })
	second := o.startReconciler(lease...)
	o.must(o.put(poolText("one", 3, "")))
	o.waitCondition("one", "Ready", "BricksStarting")
	begin := time.Now()
	o.eventually("the first renews its lease after the time that it lasts", func() bool {
		leases, err := o.typed.CoordinationV1().Leases(pooltypes.DefaultNamespace).List(t.Context(),
			metav1.ListOptions{})
		return err == nil && len(leases.Items) == 1 && leases.Items[0].Spec.RenewTime.Sub(begin) > 5*time.Second
	})
	if active(second) {
		t.Error("both are active")
	}
	first.end(syscall.SIGKILL)
	o.must(o.put(poolText("two", 3, "")))
	o.waitCondition("two", "Ready", "BricksStarting")
	// A reconciler that was paused, as on a node that hangs, exits when it resumes.
	third := o.startReconciler(lease...)
	o.must(second.cmd.Process.Signal(syscall.SIGSTOP))
	o.eventually("the third is active", func() bool { return active(third) })
	o.must(second.cmd.Process.Signal(syscall.SIGCONT))
	exited := make(chan struct{})
	go func() {
		_ = second.cmd.Wait() // any exit code will do
		close(exited)
	}()
	select {
	case <-exited:
	case <-time.After(await.Limit):
		t.Error("a reconciler that lost its lease keeps running")
	}
	o.must(o.put(poolText("three", 3, "")))
	o.waitCondition("three", "Ready", "BricksStarting")
}

// TestMetrics reads the metrics of pools.
func TestMetrics(t *testing.T) {
	o := newTestEnv(t)
	address := fmt.Sprintf("127.0.0.1:%d", port(t))
	o.startReconciler("--metrics-addr="+address, "--health-addr=127.0.0.1:0")
	o.must(o.put(poolText("fast", 3, "")))
	o.waitCondition("fast", "Ready", "BricksStarting")
	ready := regexp.MustCompile(`gotk_reconcile_condition\{[^}]*kind="StoragePool"[^}]*name="fast"[^}]*status="False"[^}]*type="Ready"[^}]*\} 1`)
	metrics := func() string {
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
	o.eventually("the condition is exported", func() bool { return ready.MatchString(metrics()) })
	if !strings.Contains(metrics(), "gotk_reconcile_duration_seconds_count") {
		t.Error("no durations are exported")
	}
	o.must(o.dynamic.Resource(storagePools).Namespace(pooltypes.DefaultNamespace).Delete(t.Context(), "fast",
		metav1.DeleteOptions{}))
	o.eventually("a deleted pool has no metrics", func() bool {
		text := metrics()
		return text != "" && !strings.Contains(text, `gotk_reconcile_condition{kind="StoragePool",name="fast"`)
	})
}
