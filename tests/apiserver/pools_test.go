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

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// commandLine runs 'atoll apply' on documents that a test writes.
type commandLine struct {
	*cluster
	program, kubeconfig, dir string
}

func newCommandLine(t *testing.T, config *rest.Config) *commandLine {
	t.Helper()
	dir := t.TempDir()
	c := &commandLine{
		cluster: connect(t, config), kubeconfig: filepath.Join(dir, "kubeconfig"),
		dir: filepath.Join(dir, "pools"),
	}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.program = build(t, dir, "atoll")
	writeConfig(t, c.kubeconfig, config, token)
	return c
}

// writePool writes a document of one replica set of three bricks, or two.
func (c *commandLine) writePool(name string, bricks int, more string) {
	c.t.Helper()
	var list []string
	for i := range bricks {
		list = append(list, fmt.Sprintf("{node: n%d, path: /%s}", i, name))
	}
	text := fmt.Sprintf("{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: %s}, spec: {type: "+
		"Replica3, bricks: [%s], %s}}", name, strings.Join(list, ", "), more)
	if err := os.WriteFile(filepath.Join(c.dir, name+".yaml"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// run returns the changes to objects, by action, and standard error.
func (c *commandLine) run(args ...string) (changes map[apply.Action][]apply.Change, stderr string, err error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, append([]string{
		"apply", "--kubeconfig", c.kubeconfig, "-o", "json",
		c.dir,
	}, args...)...)
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.Output()
	var results []apply.Result
	if e := json.Unmarshal(out, &results); e != nil {
		c.t.Fatalf("%v: %v\n%s\n%s", args, e, out, text.String())
	}
	changes = map[apply.Action][]apply.Change{}
	for _, r := range results {
		for _, change := range r.Changes {
			changes[change.Action] = append(changes[change.Action], change)
		}
	}
	return changes, text.String(), err
}

// mustRun is run that must succeed.
func (c *commandLine) mustRun(args ...string) map[apply.Action][]apply.Change {
	c.t.Helper()
	changes, stderr, err := c.run(args...)
	if err != nil {
		c.t.Fatalf("%v: %v\n%s", args, err, stderr)
	}
	return changes
}

// versions returns the UIDs and resource versions of all objects of pools, including the
// inventory.
func (c *commandLine) versions(ctx context.Context) map[string]string {
	c.t.Helper()
	all := map[string]string{}
	add := func(kind string, m metav1.ObjectMeta) {
		all[kind+" "+m.Name] = string(m.UID) + " " + m.ResourceVersion
	}
	maps, err := c.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).List(ctx,
		metav1.ListOptions{LabelSelector: "atoll.storage/pool"})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range maps.Items {
		add("ConfigMap", m.ObjectMeta)
	}
	sets, err := c.typed.AppsV1().StatefulSets(schema.DefaultNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range sets.Items {
		add("StatefulSet", s.ObjectMeta)
	}
	classes, err := c.typed.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range classes.Items {
		add("StorageClass", s.ObjectMeta)
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

// TestApplyPools applies pools, and changes of pools, with the command line.
func TestApplyPools(t *testing.T) {
	c := newCommandLine(t, start(t))
	ctx := t.Context()
	const class = "storageClasses: [{name: extra}]"
	c.writePool("fast", 6, class)
	if changes := c.mustRun("--dry-run"); len(changes[apply.Created]) != 14 || len(c.versions(ctx)) != 0 {
		t.Errorf("dry run: %v; objects: %v", changes, c.versions(ctx))
	}
	first := c.mustRun()
	if len(first[apply.Created]) != 14 || len(first) != 1 {
		t.Errorf("first run: %v", first)
	}
	keys := func(namespace string) string {
		t.Helper()
		s, err := c.typed.CoreV1().Secrets(namespace).Get(ctx, render.AgentKeys, metav1.GetOptions{})
		if err != nil || len(s.Data["1"]) != 64 {
			t.Fatalf("keys of the agents: %v", err)
		}
		return string(s.Data["1"])
	}
	generated := keys(schema.DefaultNamespace)
	// The second run writes nothing.
	before := c.versions(ctx)
	if changes := c.mustRun(); len(changes) != 1 || len(changes[apply.Unchanged]) != len(first[apply.Created]) {
		t.Errorf("second run: %v", changes)
	}
	if after := c.versions(ctx); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("objects written without a change:\n%v\n%v", before, after)
	}
	t.Run("another namespace has the same keys", func(t *testing.T) {
		tenant := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant"}}
		if _, err := c.typed.CoreV1().Namespaces().Create(ctx, tenant, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.writePool("elsewhere", 3, "suspend: false")
		defer os.Remove(filepath.Join(c.dir, "elsewhere.yaml"))
		// A pool of the same name would take over the classes of the first.
		changes, stderr, err := c.run("--namespace=tenant")
		if len(changes[apply.Created]) == 0 || err == nil ||
			!strings.Contains(stderr, "StorageClass extra belongs to pool fast in namespace atoll-system") {
			t.Errorf("%v, %v\n%s", changes, err, stderr)
		}
		if keys("tenant") != generated || keys(schema.DefaultNamespace) != generated {
			t.Error("the keys differ between namespaces, or have changed")
		}
	})
	t.Run("an option", func(t *testing.T) {
		c.writePool("fast", 6, class+`, options: {network.ping-timeout: "5"}`)
		planned := c.mustRun("--dry-run=server")[apply.Configured]
		if i := slices.IndexFunc(planned,
			func(r apply.Change) bool { return r.Name == "atoll-fast-catalog" }); i < 0 ||
			len(planned[i].Fields) != 1 || planned[i].Fields[0].Path != "data.files.vol" ||
			!strings.Contains(fmt.Sprint(planned[i].Fields[0].Becomes), "ping-timeout 5") {
			t.Errorf("planned changes: %+v", planned)
		}
		if changes := c.mustRun(); kinds(changes[apply.Configured]) != "ConfigMap" || len(changes) != 2 {
			t.Errorf("%v", changes)
		}
	})
	t.Run("drift", func(t *testing.T) {
		if err := c.typed.CoreV1().Services(schema.DefaultNamespace).Delete(ctx, "atoll-fast",
			metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		m, err := c.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).Get(ctx, "atoll-fast-catalog",
			metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m.Data["pool.json"] = "by hand"
		if _, err := c.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).Update(ctx, m,
			metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if changes := c.mustRun(); kinds(changes[apply.Created]) != "Service" ||
			kinds(changes[apply.Configured]) != "ConfigMap" {
			t.Errorf("%v", changes)
		}
	})
	t.Run("a class cannot change", func(t *testing.T) {
		before := c.versions(ctx)
		c.writePool("fast", 6,
			`options: {network.ping-timeout: "7"}, storageClasses: [{name: extra, parameters: {a: b}}]`)
		c.writePool("other", 3, "suspend: false")
		_, stderr, err := c.run()
		if err == nil || !strings.Contains(stderr, "give the new class another name") ||
			!strings.Contains(stderr, "nothing of it was applied") {
			t.Errorf("%v\n%s", err, stderr)
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
	t.Run("fewer bricks and classes", func(t *testing.T) { c.checkShrink(ctx) })
	t.Run("a namespace that does not exist", func(t *testing.T) {
		c.writePool("fast", 3, "suspend: false")
		_, stderr, err := c.run("--namespace=nowhere")
		if err == nil || !strings.Contains(stderr, "kubectl create namespace nowhere") {
			t.Errorf("%v\n%s", err, stderr)
		}
	})
	for name, version := range before {
		uid, _, _ := strings.Cut(version, " ")
		if now := c.versions(ctx)[name]; strings.HasPrefix(name, "StatefulSet") && !strings.HasPrefix(now, uid) {
			t.Errorf("%s was %s, is %s", name, version, now)
		}
	}
}

// TestApplyKilled kills the command line while it applies, later each time, and repeats the
// command.
func TestApplyKilled(t *testing.T) {
	c := newCommandLine(t, start(t))
	ctx := t.Context()
	killed := 0
	for i := range 12 {
		c.writePool("fast", 3+3*(i%2), fmt.Sprintf(`options: {network.ping-timeout: "%d"}`, 5+i))
		if i%2 == 0 && i > 0 {
			c.writePool("fast", 6, fmt.Sprintf(`options: {network.ping-timeout: "%d"}`, 5+i)) // sets are only added
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
		c.mustRun()
		before := c.versions(ctx)
		if changes := c.mustRun(); len(changes) != 1 || len(changes[apply.Unchanged]) == 0 {
			t.Errorf("after it was killed and repeated: %v", changes)
		}
		if after := c.versions(ctx); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("objects written without a change:\n%v\n%v", before, after)
		}
	}
	t.Logf("killed %d times", killed)
}

// TestApplyPrune removes pools that are not among the documents, where their policy allows it.
func TestApplyPrune(t *testing.T) {
	config := start(t)
	c := newCommandLine(t, config)
	c.writePool("stays", 3, "suspend: false")
	c.writePool("deletable", 3, "deletionPolicy: Delete")
	far := "{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: far}, spec: {type: External, " +
		"external: {hosts: [h], volume: v}, deletionPolicy: Delete}}"
	if err := os.WriteFile(filepath.Join(c.dir, "far.yaml"), []byte(far), 0o600); err != nil {
		t.Fatal(err)
	}
	c.writePool("last", 3, "suspend: false")
	c.mustRun()
	for _, name := range []string{"stays", "deletable", "far"} {
		if err := os.Remove(filepath.Join(c.dir, name+".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	if changes := c.mustRun(); len(changes[apply.Deleted]) != 0 {
		t.Errorf("without --prune: %v", changes)
	}
	changes, stderr, err := c.run("--prune")
	if err != nil || kinds(changes[apply.Deleted]) != "ConfigMap StorageClass" ||
		!strings.Contains(stderr, "pool stays is not among the documents, but stays: its deletionPolicy is Orphan") ||
		!strings.Contains(stderr,
			"pool deletable is not among the documents, but stays: brick 0 (n0:/deletable) may have files") {
		t.Errorf("%v %v\n%s", changes, err, stderr)
	}
	if err := os.Remove(filepath.Join(c.dir, "last.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := c.run("--prune"); err == nil || !strings.Contains(stderr, "would remove all pools") {
		t.Errorf("%v\n%s", err, stderr)
	}
	c.checkRemove(config, "deletable")
}

// checkRemove removes a pool with its bricks, except a brick that was relabelled to another pool.
func (c *commandLine) checkRemove(config *rest.Config, pool string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	sets := c.typed.AppsV1().StatefulSets(schema.DefaultNamespace)
	if _, err := sets.Patch(ctx, "atoll-"+pool+"-1", "application/merge-patch+json",
		[]byte(`{"metadata":{"labels":{"atoll.storage/pool":"another"}}}`), metav1.PatchOptions{}); err != nil {
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
		if relabelled := change.Kind == "StatefulSet" &&
			change.Name == "atoll-"+pool+"-1"; relabelled != (change.Action == apply.Kept) {
			c.t.Errorf("%v", change)
		}
	}
	for i, kept := range []bool{false, true, false} {
		if _, err := sets.Get(ctx, fmt.Sprintf("atoll-%s-%d", pool, i), metav1.GetOptions{}); (err == nil) != kept {
			c.t.Errorf("brick %d: %v", i, err)
		}
	}
}

// checkShrink removes a replica set and a class from the pool: the set's objects stay, and the class
// stays as long as a volume uses it.
func (c *commandLine) checkShrink(ctx context.Context) {
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
		StorageClassName: "extra", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		PersistentVolumeSource: corev1.PersistentVolumeSource{
			CSI: &corev1.CSIPersistentVolumeSource{Driver: schema.DriverName, VolumeHandle: "v1.dir.fast.v"},
		},
	}}
	volumes := c.typed.CoreV1().PersistentVolumes()
	if _, err := volumes.Create(ctx, volume, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.checkRefused("fast", 3, "brick-removed")
	c.writePool("fast", 6, "suspend: false")
	c.decommission("fast")
	c.mustRun()
	c.checkRefused("fast", 3, "not-drained")
	c.rebalanced("fast", 0, allPodsReady)
	c.writePool("fast", 3, "suspend: false")
	for range 2 { // every run keeps and reports the same objects
		changes := c.mustRun()
		if kept := changes[apply.Kept]; kinds(kept) != "StatefulSet StorageClass" || len(kept) != 4 {
			c.t.Errorf("kept: %v", kept)
		}
		for _, k := range changes[apply.Kept] {
			if k.Kind == "StorageClass" && k.Reason != "1 volumes use it" {
				c.t.Errorf("%v", k)
			}
		}
	}
	if _, err := c.typed.AppsV1().Deployments(schema.DefaultNamespace).Get(ctx, "atoll-fast-rebalance",
		metav1.GetOptions{}); err == nil {
		c.t.Error("the rebalance Deployment still exists")
	}
	if err := volumes.Delete(ctx, "v", metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
	// No controller removes the finalizer here.
	if _, err := volumes.Patch(ctx, "v", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`),
		metav1.PatchOptions{}); err != nil {
		c.t.Log(err) // it is deleted already
	}
	if changes := c.mustRun(); kinds(changes[apply.Deleted]) != "StorageClass" ||
		kinds(changes[apply.Kept]) != "StatefulSet" {
		c.t.Errorf("%v", changes)
	}
	// The set left the pool: it is neither changed nor deleted.
	set, err := c.typed.AppsV1().StatefulSets(schema.DefaultNamespace).Get(ctx, "atoll-fast-5", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	if set.DeletionTimestamp != nil {
		c.t.Error("the StatefulSet of a brick is being deleted")
	}
}

// checkRefused applies a pool with so many bricks, which must fail with a danger.
func (c *commandLine) checkRefused(name string, bricks int, danger string) {
	c.t.Helper()
	c.writePool(name, bricks, "suspend: false")
	if changes, stderr, err := c.run(); err == nil || !strings.Contains(stderr, danger) ||
		!strings.Contains(stderr, "nothing of it was applied") {
		c.t.Errorf("%v: %v\n%s", changes, err, stderr)
	}
}
