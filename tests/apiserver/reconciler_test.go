package apiserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	gvr "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/programs"
)

// testEnv is a cluster with the definitions of pools, and a reconciler's program to run in it.
type testEnv struct {
	*cluster
	config              *rest.Config
	program, kubeconfig string
}

func newTestEnv(t *testing.T) *testEnv {
	t.Helper()
	return newTestEnvOn(t, start(t))
}

func newTestEnvOn(t *testing.T, config *rest.Config) *testEnv {
	t.Helper()
	o := &testEnv{config: config}
	o.cluster = newCRDClient(t, config).cluster
	o.createCRD("../../kustomize/components/kadalu/kadalustorages.yaml")
	dir := t.TempDir()
	o.program, o.kubeconfig = build(t, dir, "atoll-reconciler"), filepath.Join(dir, "kubeconfig")
	writeConfig(t, o.kubeconfig, config, token)
	return o
}

// build puts a program of the project into a directory, and returns its path.
func build(t *testing.T, dir, command string) string {
	t.Helper()
	path, err := programs.Link(command, dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func writeConfig(t *testing.T, path string, config *rest.Config, token string) {
	t.Helper()
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
  clusters: [{name: a, cluster: {server: %q, insecure-skip-tls-verify: true}}],
  users: [{name: a, user: {token: %s}}]}`, config.Host, token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// process is a running reconciler.
type process struct {
	cmd     *exec.Cmd
	log     string
	metrics string // address
}

// logged returns what the process has logged so far.
func (p *process) logged() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// runs returns how often a pool was reconciled.
func (p *process) runs(pool string) (n int) {
	r, err := http.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		if strings.HasPrefix(name, "gotk_reconcile_duration_seconds_count{") &&
			strings.Contains(name, fmt.Sprintf("name=%q", pool)) {
			_, _ = fmt.Sscan(value, &n)
		}
	}
	return n
}

func (p *process) end(how syscall.Signal) {
	_ = p.cmd.Process.Signal(how) // it may have ended
	_ = p.cmd.Wait()
}

// startReconciler starts a reconciler, which ends with the test.
func (o *testEnv) startReconciler(args ...string) *process {
	o.t.Helper()
	log, err := os.CreateTemp(o.t.TempDir(), "log")
	if err != nil {
		o.t.Fatal(err)
	}
	defer log.Close()
	metrics := fmt.Sprintf("127.0.0.1:%d", port(o.t))
	cmd := exec.Command(o.program, append([]string{
		"--metrics-addr=" + metrics, "--health-addr=0", "--kadalu",
		"--log-level=debug", "--bricks-interval=4s",
	}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+o.kubeconfig)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn.Start(cmd); err != nil {
		o.t.Fatal(err)
	}
	p := &process{cmd, log.Name(), metrics}
	o.t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if o.t.Failed() {
			text, _ := os.ReadFile(p.log)
			o.t.Logf("the reconciler:\n%s", text[max(0, len(text)-6000):])
		}
	})
	return p
}

var (
	storagePools   = gvr.GroupVersionResource{Group: "atoll.storage", Version: "v1alpha1", Resource: "storagepools"}
	kadaluStorages = gvr.GroupVersionResource{
		Group: "kadalu-operator.storage", Version: "v1alpha1",
		Resource: "kadalustorages",
	}
)

// put applies a document as kubectl --server-side does.
func (o *testEnv) put(text string) error {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		o.t.Fatal(err)
	}
	resource := storagePools
	if u.GetKind() == "KadaluStorage" {
		resource = kadaluStorages
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	_, err := o.dynamic.Resource(resource).Namespace(schema.DefaultNamespace).Apply(ctx, u.GetName(), u,
		metav1.ApplyOptions{FieldManager: "a-person", Force: true})
	return err
}

func (o *testEnv) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// poolText returns the document of a pool with bricks on nodes n0, n1 and so on.
func poolText(name string, bricks int, more string) string {
	var list []string
	for i := range bricks {
		list = append(list, fmt.Sprintf("{node: n%d, path: /%s}", i, name))
	}
	return fmt.Sprintf("{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: %s}, spec: {type: "+
		"Replica3, bricks: [%s]%s}}", name, strings.Join(list, ", "), more)
}

// get returns a pool; nil if it does not exist.
func (o *testEnv) get(resource gvr.GroupVersionResource, name string) *v1alpha1.StoragePool {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	u, err := o.dynamic.Resource(resource).Namespace(schema.DefaultNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	o.must(err)
	var p v1alpha1.StoragePool
	o.must(runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p))
	return &p
}

func condition(p *v1alpha1.StoragePool, kind string) metav1.Condition {
	if p != nil {
		for _, c := range p.Status.Conditions {
			if c.Type == kind {
				return c
			}
		}
	}
	return metav1.Condition{}
}

// eventually polls until ok returns true.
func (o *testEnv) eventually(what string, ok func() bool) {
	o.t.Helper()
	await.True(o.t, what, ok)
}

// reconcileAgain requests a reconciliation of a pool, and waits until it is done.
func (o *testEnv) reconcileAgain(name string) {
	o.t.Helper()
	at := time.Now().Format(time.RFC3339Nano)
	o.patch(storagePools, name, fmt.Sprintf(`{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":%q}}}`, at))
	o.eventually(name+" is reconciled again", func() bool {
		return o.get(storagePools, name).Status.LastHandledReconcileAt == at
	})
}

// waitCondition waits until a condition of a pool has a reason.
func (o *testEnv) waitCondition(name, kind, reason string) metav1.Condition {
	o.t.Helper()
	var c metav1.Condition
	o.eventually(fmt.Sprintf("%s of %s is %s", kind, name, reason), func() bool {
		c = condition(o.get(storagePools, name), kind)
		return c.Reason == reason
	})
	return c
}

// createBrickPod creates the pod of a brick as the StatefulSet controller and a kubelet would, with
// the address of an agent on this machine.
func (o *testEnv) createBrickPod(pool string, index int, address, revision string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	pods := o.typed.CoreV1().Pods(schema.DefaultNamespace)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("atoll-%s-%d-0", pool, index), Labels: map[string]string{
			"atoll.storage/pool": pool, "atoll.storage/brick": strconv.Itoa(index),
			"controller-revision-hash": revision,
		}},
		Spec: corev1.PodSpec{
			NodeName:   fmt.Sprintf("n%d", index),
			Containers: []corev1.Container{{Name: "glusterfsd", Image: "x"}},
		},
	}
	pod, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	o.must(err)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
	_, err = pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	o.must(err)
}

func (o *testEnv) patch(resource gvr.GroupVersionResource, name, patch string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	_, err := o.dynamic.Resource(resource).Namespace(schema.DefaultNamespace).Patch(ctx, name, types.MergePatchType,
		[]byte(patch), metav1.PatchOptions{})
	o.must(err)
}

// TestReconcile reconciles pools without running bricks: drift, changes, errors, restarts.
func TestReconcile(t *testing.T) {
	o := newTestEnv(t)
	ctx := t.Context()
	first := o.startReconciler()
	var second *process
	o.must(o.put(poolText("fast", 3, "")))
	starting := o.waitCondition("fast", "Ready", "BricksStarting")
	if starting.Status != "False" || !strings.Contains(starting.Message,
		"brick 0 (n0:/fast) is pending: its pod does not exist") {
		t.Errorf("%+v", starting)
	}
	var p *v1alpha1.StoragePool
	o.eventually("its status is complete", func() bool {
		p = o.get(storagePools,
			"fast")
		return p.Status.ObservedGeneration == p.Generation
	})
	if p.Status.LastAppliedRevision == "" || p.Status.BricksOnline != "0/3" || p.Status.Backlog != -1 ||
		condition(p, "Reconciling").Status != "True" {
		t.Errorf("%+v", p.Status)
	}
	sets, err := o.typed.AppsV1().StatefulSets(schema.DefaultNamespace).List(ctx, metav1.ListOptions{})
	if err != nil || len(sets.Items) != 3 {
		t.Fatalf("%d StatefulSets, %v", len(sets.Items), err)
	}
	for _, s := range sets.Items {
		if len(s.OwnerReferences) > 0 {
			t.Error("a brick would be deleted with its pool's document")
		}
	}
	t.Run("drift is corrected", func(t *testing.T) {
		o.must(o.typed.CoreV1().Services(schema.DefaultNamespace).Delete(ctx, "atoll-fast", metav1.DeleteOptions{}))
		o.eventually("the Service is back", func() bool {
			_, err := o.typed.CoreV1().Services(schema.DefaultNamespace).Get(ctx, "atoll-fast", metav1.GetOptions{})
			return err == nil
		})
		o.must(o.typed.StorageV1().StorageClasses().Delete(ctx, "atoll.fast", metav1.DeleteOptions{}))
		o.eventually("the class is back", func() bool {
			_, err := o.typed.StorageV1().StorageClasses().Get(ctx, "atoll.fast", metav1.GetOptions{})
			return err == nil
		})
		_, err := o.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).Patch(ctx, "atoll-fast-catalog",
			types.MergePatchType, []byte(`{"data":{"pool.json":"by hand"}}`), metav1.PatchOptions{})
		o.must(err)
		o.eventually("the catalog is corrected", func() bool {
			m, err := o.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).Get(ctx, "atoll-fast-catalog",
				metav1.GetOptions{})
			return err == nil && m.Data["pool.json"] != "by hand"
		})
	})
	t.Run("others write the same fields", func(t *testing.T) {
		other := parseDocument(t,
			`{apiVersion: v1, kind: ConfigMap, metadata: {name: atoll-fast-catalog}, data: {pool.json: "by somebody"}}`)
		maps := o.dynamic.Resource(gvr.GroupVersionResource{
			Version:  "v1",
			Resource: "configmaps",
		}).Namespace(schema.DefaultNamespace)
		if _, err := maps.Apply(ctx, other.GetName(), other,
			metav1.ApplyOptions{FieldManager: "somebody"}); !apierrors.IsConflict(err) {
			t.Errorf("without force: %v", err)
		}
		_, err := maps.Apply(ctx, other.GetName(), other, metav1.ApplyOptions{FieldManager: "somebody", Force: true})
		o.must(err)
		o.eventually("the field is corrected", func() bool {
			m, err := maps.Get(ctx, other.GetName(), metav1.GetOptions{})
			text, _, _ := unstructured.NestedString(m.Object, "data", "pool.json")
			return err == nil && text != "by somebody"
		})
		_, err = o.typed.AppsV1().StatefulSets(schema.DefaultNamespace).Patch(ctx, "atoll-fast-1",
			types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{})
		o.must(err)
		o.eventually("the StatefulSet is scaled back", func() bool {
			s, err := o.typed.AppsV1().StatefulSets(schema.DefaultNamespace).Get(ctx, "atoll-fast-1",
				metav1.GetOptions{})
			return err == nil && *s.Spec.Replicas == 1
		})
	})
	t.Run("an invalid pool stalls alone", func(t *testing.T) {
		// An error that only vet finds: two bricks of a set on one node.
		o.must(o.put(`{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: wrong}, spec: {type: Replica3, bricks: [{node: a, path: /x}, {node: a, path: /y}, {node: b, path: /x}]}}`))
		c := o.waitCondition("wrong", "Stalled", "InvalidSpec")
		if c.Status != "True" || !strings.Contains(c.Message, "spec.bricks[1]") {
			t.Errorf("%+v", c)
		}
		o.must(o.put(poolText("wrong", 3, "")))
		o.waitCondition("wrong", "Ready", "BricksStarting")
		if c := condition(o.get(storagePools, "wrong"), "Stalled"); c.Type != "" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("a dangerous change is refused", func(t *testing.T) {
		moved := strings.Replace(poolText("fast", 3, ""), "{node: n0, path: /fast}, {node: n1, path: /fast}",
			"{node: n1, path: /fast}, {node: n0, path: /fast}", 1)
		o.must(o.put(moved))
		c := o.waitCondition("fast", "Stalled", "ChangeRefused")
		if !strings.Contains(c.Message, "brick-reordered") {
			t.Errorf("%+v", c)
		}
		o.must(o.put(poolText("fast", 3, "")))
		o.waitCondition("fast", "Ready", "BricksStarting")
	})
	t.Run("suspended", func(t *testing.T) {
		o.must(o.put(poolText("fast", 3, ", suspend: true")))
		o.reconcileAgain("fast")
		o.must(o.typed.CoreV1().Services(schema.DefaultNamespace).Delete(ctx, "atoll-fast", metav1.DeleteOptions{}))
		o.reconcileAgain("fast")
		if _, err := o.typed.CoreV1().Services(schema.DefaultNamespace).Get(ctx, "atoll-fast",
			metav1.GetOptions{}); err == nil {
			t.Error("a suspended pool was corrected")
		}
		o.must(o.put(poolText("fast", 3, ", suspend: false")))
		o.eventually("the Service is back", func() bool {
			_, err := o.typed.CoreV1().Services(schema.DefaultNamespace).Get(ctx, "atoll-fast", metav1.GetOptions{})
			return err == nil
		})
	})
	t.Run("reconciliation requested", func(t *testing.T) {
		o.patch(storagePools, "fast", `{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":"now"}}}`)
		o.eventually("the request is handled", func() bool {
			return o.get(storagePools,
				"fast").Status.LastHandledReconcileAt == "now"
		})
	})
	t.Run("a Kadalu document", func(t *testing.T) {
		o.must(o.put(`{apiVersion: kadalu-operator.storage/v1alpha1, kind: KadaluStorage, metadata: {name: old}, spec: {type: Replica1, storage: [{node: k1, path: /k}]}}`))
		o.eventually("it has its classes", func() bool {
			_, err := o.typed.StorageV1().StorageClasses().Get(ctx, "kadalu.old", metav1.GetOptions{})
			return err == nil && condition(o.get(kadaluStorages, "old"), "Ready").Reason == "BricksStarting"
		})
	})
	t.Run("changes while no reconciler runs", func(t *testing.T) {
		first.end(syscall.SIGKILL)
		o.must(o.typed.CoreV1().Services(schema.DefaultNamespace).Delete(ctx, "atoll-fast", metav1.DeleteOptions{}))
		o.must(o.put(poolText("later", 3, "")))
		second = o.startReconciler()
		o.waitCondition("later", "Ready", "BricksStarting")
		o.eventually("the Service is back", func() bool {
			_, err := o.typed.CoreV1().Services(schema.DefaultNamespace).Get(ctx, "atoll-fast", metav1.GetOptions{})
			return err == nil
		})
	})
	t.Run("nothing is written when nothing changes", func(t *testing.T) {
		all := func() string {
			var versions []string
			u, err := o.dynamic.Resource(storagePools).Namespace(schema.DefaultNamespace).Get(ctx, "later",
				metav1.GetOptions{})
			o.must(err)
			versions = append(versions, u.GetResourceVersion())
			maps, err := o.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).List(ctx,
				metav1.ListOptions{LabelSelector: "atoll.storage/pool=later"})
			o.must(err)
			for _, m := range maps.Items {
				versions = append(versions, m.Name+" "+m.ResourceVersion)
			}
			return strings.Join(versions, "\n")
		}
		again := func() {
			t.Helper()
			n := second.runs("later")
			o.eventually("it is reconciled again: its bricks do not exist",
				func() bool { return second.runs("later") >= n+2 })
		}
		again()
		before := all()
		again()
		if now := all(); now != before {
			t.Errorf("%s\n%s", before, now)
		}
	})
	events, err := o.typed.CoreV1().Events(schema.DefaultNamespace).List(ctx, metav1.ListOptions{})
	o.must(err)
	seen := map[string]int{}
	for _, e := range events.Items {
		seen[e.InvolvedObject.Name+" "+e.Reason] += int(e.Count)
	}
	text, _ := json.Marshal(seen)
	t.Logf("events: %s", text)
	if seen["fast Applied"] == 0 || seen["wrong InvalidSpec"] == 0 || seen["fast ChangeRefused"] == 0 {
		t.Error("events are missing")
	}
	if seen["later BricksStarting"] != 1 {
		t.Errorf("%d equal events", seen["later BricksStarting"])
	}
}
