package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
)

// commandLine runs 'atoll apply' on documents that a test writes.
type commandLine struct {
	*cluster
	program, kubeconfig, dir string
}

func newCommandLine(t *testing.T, config *rest.Config) *commandLine {
	t.Helper()
	dir := t.TempDir()
	c := &commandLine{cluster: connect(t, config), kubeconfig: filepath.Join(dir, "kubeconfig"), dir: filepath.Join(dir, "pools")}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.program = build(t, dir, "atoll")
	writeConfig(t, c.kubeconfig, config, token)
	return c
}

// pool writes a document of two sets of three bricks, or one.
func (c *commandLine) pool(name string, bricks int, more string) {
	c.t.Helper()
	var list []string
	for i := range bricks {
		list = append(list, fmt.Sprintf("{node: n%d, path: /%s}", i, name))
	}
	text := fmt.Sprintf("{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: %s}, spec: {type: Replica3, bricks: [%s], %s}}", name, strings.Join(list, ", "), more)
	if err := os.WriteFile(filepath.Join(c.dir, name+".yaml"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// run gives what happened to objects, by action, and what was said of errors.
func (c *commandLine) run(args ...string) (changes map[apply.Action][]apply.Change, trouble string, err error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, append([]string{"apply", "--kubeconfig", c.kubeconfig, "-o", "json", c.dir}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	var results []apply.Result
	if e := json.Unmarshal(out, &results); e != nil {
		c.t.Fatalf("%v: %v\n%s\n%s", args, e, out, said.String())
	}
	changes = map[apply.Action][]apply.Change{}
	for _, r := range results {
		for _, change := range r.Changes {
			changes[change.Action] = append(changes[change.Action], change)
		}
	}
	return changes, said.String(), err
}

// done is run for what must succeed.
func (c *commandLine) done(args ...string) map[apply.Action][]apply.Change {
	c.t.Helper()
	changes, said, err := c.run(args...)
	if err != nil {
		c.t.Fatalf("%v: %v\n%s", args, err, said)
	}
	return changes
}

// versions gives the resource versions of all objects of pools, the inventory included.
func (c *commandLine) versions(ctx context.Context) map[string]string {
	c.t.Helper()
	all := map[string]string{}
	note := func(kind string, m metav1.ObjectMeta) {
		all[kind+" "+m.Name] = string(m.UID) + " " + m.ResourceVersion
	}
	maps, err := c.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).List(ctx, metav1.ListOptions{LabelSelector: "atoll.storage/pool"})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range maps.Items {
		note("ConfigMap", m.ObjectMeta)
	}
	sets, err := c.typed.AppsV1().StatefulSets(schema.DefaultNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range sets.Items {
		note("StatefulSet", s.ObjectMeta)
	}
	classes, err := c.typed.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range classes.Items {
		note("StorageClass", s.ObjectMeta)
	}
	return all
}

func kinds(changes []apply.Change) string {
	var all []string
	for _, c := range changes {
		all = append(all, c.Kind)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

// TestApplyPools has the command line bring pools into a cluster, and follow them.
func TestApplyPools(t *testing.T) {
	c := newCommandLine(t, start(t))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const class = "storageClasses: [{name: extra}]"
	c.pool("fast", 6, class)
	if changes := c.done("--dry-run"); len(changes[apply.Created]) != 14 || len(c.versions(ctx)) != 0 {
		t.Errorf("tried: %v; there are %v", changes, c.versions(ctx))
	}
	first := c.done()
	if len(first[apply.Created]) != 14 || len(first) != 1 {
		t.Errorf("the first time: %v", first)
	}
	keys := func(namespace string) string {
		t.Helper()
		s, err := c.typed.CoreV1().Secrets(namespace).Get(ctx, render.AgentKeys, metav1.GetOptions{})
		if err != nil || len(s.Data["1"]) != 64 {
			t.Fatalf("keys of the agents: %v", err)
		}
		return string(s.Data["1"])
	}
	made := keys(schema.DefaultNamespace)
	// Nothing is written the second time.
	before := c.versions(ctx)
	if changes := c.done(); len(changes) != 1 || len(changes[apply.Unchanged]) != len(first[apply.Created]) {
		t.Errorf("the second time: %v", changes)
	}
	if after := c.versions(ctx); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("written though nothing has changed:\n%v\n%v", before, after)
	}
	t.Run("another namespace has the same keys", func(t *testing.T) {
		tenant := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant"}}
		if _, err := c.typed.CoreV1().Namespaces().Create(ctx, tenant, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.pool("elsewhere", 3, "suspend: false")
		defer os.Remove(filepath.Join(c.dir, "elsewhere.yaml"))
		// A pool of the same name would take the classes of the other one.
		changes, said, err := c.run("--namespace=tenant")
		if len(changes[apply.Created]) == 0 || err == nil || !strings.Contains(said, "StorageClass extra belongs to pool fast in namespace atoll-system") {
			t.Errorf("%v, %v\n%s", changes, err, said)
		}
		if keys("tenant") != made || keys(schema.DefaultNamespace) != made {
			t.Error("the keys are not the same, or not what they were")
		}
	})
	t.Run("an option", func(t *testing.T) {
		c.pool("fast", 6, class+`, options: {network.ping-timeout: "5"}`)
		tried := c.done("--dry-run=server")[apply.Configured]
		if i := slices.IndexFunc(tried, func(r apply.Change) bool { return r.Name == "atoll-fast-catalog" }); i < 0 || len(tried[i].Fields) != 1 || tried[i].Fields[0].Path != "data.files.vol" || !strings.Contains(fmt.Sprint(tried[i].Fields[0].Becomes), "ping-timeout 5") {
			t.Errorf("what would change: %+v", tried)
		}
		if changes := c.done(); kinds(changes[apply.Configured]) != "ConfigMap" || len(changes) != 2 {
			t.Errorf("%v", changes)
		}
	})
	t.Run("drift", func(t *testing.T) {
		if err := c.typed.CoreV1().Services(schema.DefaultNamespace).Delete(ctx, "atoll-fast", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		m, err := c.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).Get(ctx, "atoll-fast-catalog", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m.Data["pool.json"] = "by hand"
		if _, err := c.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).Update(ctx, m, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if changes := c.done(); kinds(changes[apply.Created]) != "Service" || kinds(changes[apply.Configured]) != "ConfigMap" {
			t.Errorf("%v", changes)
		}
	})
	t.Run("a class cannot change", func(t *testing.T) {
		before := c.versions(ctx)
		c.pool("fast", 6, `options: {network.ping-timeout: "7"}, storageClasses: [{name: extra, parameters: {a: b}}]`)
		c.pool("other", 3, "suspend: false")
		_, said, err := c.run()
		if err == nil || !strings.Contains(said, "give the new class another name") || !strings.Contains(said, "nothing of it was applied") {
			t.Errorf("%v\n%s", err, said)
		}
		after := c.versions(ctx)
		for name, version := range before {
			if after[name] != version {
				t.Errorf("%s was written", name)
			}
		}
		if after["StatefulSet atoll-other-0"] == "" {
			t.Error("the other pool was not applied")
		}
	})
	t.Run("less", func(t *testing.T) { c.less(ctx) })
	t.Run("a namespace that is not there", func(t *testing.T) {
		c.pool("fast", 3, "suspend: false")
		_, said, err := c.run("--namespace=nowhere")
		if err == nil || !strings.Contains(said, "kubectl create namespace nowhere") {
			t.Errorf("%v\n%s", err, said)
		}
	})
	for name, version := range before {
		is, _, _ := strings.Cut(version, " ")
		if now := c.versions(ctx)[name]; strings.HasPrefix(name, "StatefulSet") && !strings.HasPrefix(now, is) {
			t.Errorf("%s was %s, is %s", name, version, now)
		}
	}
}

// TestApplyKilled kills the command line while it applies, at more and more of the way, and
// has it do it again.
func TestApplyKilled(t *testing.T) {
	c := newCommandLine(t, start(t))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	killed := 0
	for i := range 12 {
		c.pool("fast", 3+3*(i%2), fmt.Sprintf(`options: {network.ping-timeout: "%d"}`, 5+i))
		if i%2 == 0 && i > 0 {
			c.pool("fast", 6, fmt.Sprintf(`options: {network.ping-timeout: "%d"}`, 5+i)) // sets only come
		}
		cmd := exec.Command(c.program, "apply", "--kubeconfig", c.kubeconfig, c.dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(60+25*i) * time.Millisecond)
		if cmd.Process.Kill() == nil {
			killed++
		}
		_ = cmd.Wait()
		c.done()
		before := c.versions(ctx)
		if changes := c.done(); len(changes) != 1 || len(changes[apply.Unchanged]) == 0 {
			t.Errorf("after it was killed and repeated: %v", changes)
		}
		if after := c.versions(ctx); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("written though nothing has changed:\n%v\n%v", before, after)
		}
	}
	t.Logf("killed %d times", killed)
}

// TestApplyPrune removes what is not among the documents, when it may.
func TestApplyPrune(t *testing.T) {
	config := start(t)
	c := newCommandLine(t, config)
	c.pool("stays", 3, "suspend: false")
	c.pool("asked", 3, "deletionPolicy: Delete")
	far := "{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: far}, spec: {type: External, external: {hosts: [h], volume: v}, deletionPolicy: Delete}}"
	if err := os.WriteFile(filepath.Join(c.dir, "far.yaml"), []byte(far), 0o600); err != nil {
		t.Fatal(err)
	}
	c.pool("here", 3, "suspend: false")
	c.done()
	for _, name := range []string{"stays", "asked", "far"} {
		if err := os.Remove(filepath.Join(c.dir, name+".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	if changes := c.done(); len(changes[apply.Deleted]) != 0 {
		t.Errorf("without being told to: %v", changes)
	}
	changes, said, err := c.run("--prune")
	if err != nil || kinds(changes[apply.Deleted]) != "ConfigMap StorageClass" || !strings.Contains(said, "pool stays is not among the documents, but stays: its deletionPolicy is Orphan") ||
		!strings.Contains(said, "pool asked is not among the documents, but stays: brick 0 (n0:/asked) may have files") {
		t.Errorf("%v %v\n%s", changes, err, said)
	}
	if err := os.Remove(filepath.Join(c.dir, "here.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, said, err := c.run("--prune"); err == nil || !strings.Contains(said, "would remove all pools") {
		t.Errorf("%v\n%s", err, said)
	}
	c.removed(config, "asked")
}

// removed takes a pool away with its bricks, but for one that is somebody else's by now.
func (c *commandLine) removed(config *rest.Config, pool string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sets := c.typed.AppsV1().StatefulSets(schema.DefaultNamespace)
	if _, err := sets.Patch(ctx, "atoll-"+pool+"-1", "application/merge-patch+json", []byte(`{"metadata":{"labels":{"atoll.storage/pool":"another"}}}`), metav1.PatchOptions{}); err != nil {
		c.t.Fatal(err)
	}
	a, err := apply.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := a.Remove(ctx, schema.DefaultNamespace, pool)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, change := range r.Changes {
		if theirs := change.Kind == "StatefulSet" && change.Name == "atoll-"+pool+"-1"; theirs != (change.Action == apply.Kept) {
			c.t.Errorf("%v", change)
		}
	}
	for i, left := range []bool{false, true, false} {
		if _, err := sets.Get(ctx, fmt.Sprintf("atoll-%s-%d", pool, i), metav1.GetOptions{}); (err == nil) != left {
			c.t.Errorf("brick %d: %v", i, err)
		}
	}
}

// less takes a set and a class out of the pool: what serves bricks stays, and the class
// for as long as a volume uses it.
func (c *commandLine) less(ctx context.Context) {
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
		StorageClassName: "extra", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
		Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: schema.DriverName, VolumeHandle: "v1.dir.fast.v"}},
	}}
	volumes := c.typed.CoreV1().PersistentVolumes()
	if _, err := volumes.Create(ctx, volume, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.refused("fast", 3, "brick-removed")
	c.pool("fast", 6, "suspend: false")
	c.leaving("fast")
	c.done()
	c.refused("fast", 3, "not-drained")
	mover, err := c.typed.AppsV1().Deployments(schema.DefaultNamespace).Get(ctx, "atoll-fast-rebalance", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	mover.Status = appsv1.DeploymentStatus{ObservedGeneration: mover.Generation, Replicas: 1, ReadyReplicas: 1}
	if _, err := c.typed.AppsV1().Deployments(schema.DefaultNamespace).UpdateStatus(ctx, mover, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.pool("fast", 3, "suspend: false")
	for range 2 { // what is kept is kept, and told of, every time
		changes := c.done()
		if kept := changes[apply.Kept]; kinds(kept) != "StatefulSet StorageClass" || len(kept) != 4 {
			c.t.Errorf("kept: %v", kept)
		}
		for _, k := range changes[apply.Kept] {
			if k.Kind == "StorageClass" && k.Reason != "1 volumes use it" {
				c.t.Errorf("%v", k)
			}
		}
	}
	if _, err := c.typed.AppsV1().Deployments(schema.DefaultNamespace).Get(ctx, "atoll-fast-rebalance", metav1.GetOptions{}); err == nil {
		c.t.Error("what moved files over the sets is still there")
	}
	if err := volumes.Delete(ctx, "v", metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
	// Nobody takes the finalizer off here.
	if _, err := volumes.Patch(ctx, "v", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		c.t.Log(err) // it has gone at once
	}
	if changes := c.done(); kinds(changes[apply.Deleted]) != "StorageClass" || kinds(changes[apply.Kept]) != "StatefulSet" {
		c.t.Errorf("%v", changes)
	}
	// Somebody else's by now: it is neither changed nor deleted.
	set, err := c.typed.AppsV1().StatefulSets(schema.DefaultNamespace).Get(ctx, "atoll-fast-5", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	if set.DeletionTimestamp != nil {
		c.t.Error("the StatefulSet of a brick is being deleted")
	}
}

// refused applies a pool of so many bricks, which must not be.
func (c *commandLine) refused(name string, bricks int, danger string) {
	c.t.Helper()
	c.pool(name, bricks, "suspend: false")
	if changes, said, err := c.run(); err == nil || !strings.Contains(said, danger) || !strings.Contains(said, "nothing of it was applied") {
		c.t.Errorf("%v: %v\n%s", changes, err, said)
	}
}

// leaving decommissions the second set of a pool.
func (c *commandLine) leaving(name string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name+".yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 3; i < 6; i++ {
		brick := fmt.Sprintf("{node: n%d, path: /%s", i, name)
		text = []byte(strings.Replace(string(text), brick, brick+", decommissioned: true", 1))
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
}
