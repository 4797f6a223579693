package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	gvr "k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/render"
	pooltypes "github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// flux applies and prunes as kustomize-controller does, with its library.
type flux struct {
	*testEnv
	manager *ssa.ResourceManager
}

func newFlux(o *testEnv) flux {
	o.t.Helper()
	c, err := client.New(o.config, client.Options{})
	o.must(err)
	poller := polling.NewStatusPoller(c, c.RESTMapper(), polling.Options{})
	return flux{o, ssa.NewResourceManager(c, poller, ssa.Owner{
		Field: "kustomize-controller",
		Group: "kustomize.toolkit.fluxcd.io",
	})}
}

// pruneExclusions has the metadata of objects that kustomize-controller does not prune.
var pruneExclusions = map[string]string{"kustomize.toolkit.fluxcd.io/prune": "disabled"}

func (f flux) apply(ctx context.Context, force bool, objects ...*unstructured.Unstructured) map[string]int {
	f.t.Helper()
	var labelled []*unstructured.Unstructured
	for _, o := range objects {
		labelled = append(labelled, o.DeepCopy())
	}
	f.manager.SetOwnerLabels(labelled, "pools", "flux-system")
	options := ssa.DefaultApplyOptions()
	options.Force = force
	set, err := f.manager.ApplyAllStaged(ctx, labelled, options)
	f.must(err)
	actions := map[string]int{}
	for _, e := range set.Entries {
		actions[string(e.Action)]++
	}
	return actions
}

func (f flux) prune(ctx context.Context, objects ...*unstructured.Unstructured) map[string]int {
	f.t.Helper()
	set, err := f.manager.DeleteAll(ctx, objects,
		ssa.DeleteOptions{
			PropagationPolicy: metav1.DeletePropagationBackground,
			Inclusions:        f.manager.GetOwnerLabels("pools", "flux-system"), Exclusions: pruneExclusions,
		})
	f.must(err)
	actions := map[string]int{}
	for _, e := range set.Entries {
		actions[string(e.Action)]++
	}
	return actions
}

func parseDocument(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	u.SetNamespace(pooltypes.DefaultNamespace)
	return u
}

// TestFluxResource applies the pool's resource as kustomize-controller does: Flux and the
// reconciler write it without conflicts. A pool that Flux deletes, or replaces by force,
// keeps running.
func TestFluxResource(t *testing.T) {
	o := newTestEnv(t)
	f := newFlux(o)
	ctx := t.Context()
	o.startReconciler()
	pool := parseDocument(t, poolText("fast", 3, ", deletionPolicy: Delete"))
	if got := f.apply(ctx, false, pool); got["created"] != 1 {
		t.Errorf("%v", got)
	}
	o.waitCondition("fast", "Ready", "BricksStarting")
	for range 2 {
		if got := f.apply(ctx, false, pool); got["unchanged"] != 1 {
			t.Errorf("with a finalizer and a status that are not Flux's: %v", got)
		}
	}
	bricks := func() int {
		list, err := o.typed.AppsV1().StatefulSets(pooltypes.DefaultNamespace).List(ctx, metav1.ListOptions{})
		o.must(err)
		return len(list.Items)
	}
	t.Run("pruned", func(t *testing.T) {
		if got := f.prune(ctx, pool); got["deleted"] != 1 {
			t.Errorf("%v", got)
		}
		c := o.waitCondition("fast", "Ready", "VolumesInUse")
		if !strings.Contains(c.Message, "brick 0 (n0:/fast) may have files") || bricks() != 3 {
			t.Errorf("%+v, %d bricks", c, bricks())
		}
	})
	t.Run("replaced by force", func(t *testing.T) {
		other := parseDocument(t, poolText("other", 3, ""))
		f.apply(ctx, false, other)
		o.waitCondition("other", "Ready", "BricksStarting")
		arbiter := parseDocument(t, strings.Replace(poolText("other", 3, ""), "Replica3", "Arbiter", 1))
		f.apply(ctx, true, arbiter) // the API server rejects the change: Flux deletes and recreates the pool
		c := o.waitCondition("other", "Stalled", "ChangeRefused")
		if !strings.Contains(c.Message, "type-changed") || bricks() != 6 {
			t.Errorf("%+v, %d bricks", c, bricks())
		}
	})
}

// renderText returns the rendered objects of a document, as 'atoll render' writes them.
func renderText(t *testing.T, text string) (all []*unstructured.Unstructured) {
	t.Helper()
	found, err := loader.Load(t.Context(), loader.Options{Stdin: strings.NewReader(text)}, "-")
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := render.Render(found.Documents[0].Pool, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rendered {
		fields, err := render.Fields(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(text); err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// TestFluxRendered applies and prunes a pool's rendered objects as kustomize-controller does.
func TestFluxRendered(t *testing.T) {
	o := newTestEnv(t)
	f := newFlux(o)
	ctx := t.Context()
	objects := renderText(t, poolText("fast", 6, ""))
	if got := f.apply(ctx, false, objects...); got["created"] != len(objects) {
		t.Errorf("%v of %d", got, len(objects))
	}
	if got := f.apply(ctx, false, objects...); got["unchanged"] != len(objects) {
		t.Errorf("%v of %d", got, len(objects))
	}
	got := f.prune(ctx, objects...)
	list, err := f.typed.AppsV1().StatefulSets(pooltypes.DefaultNamespace).List(ctx, metav1.ListOptions{})
	o.must(err)
	if len(list.Items) != 6 {
		t.Errorf("%d bricks are left", len(list.Items))
	}
	if got["skipped"] != 9 || got["deleted"] != len(objects)-9 { // 6 bricks, 2 ConfigMaps, the Service
		t.Errorf("%v of %d", got, len(objects))
	}
}

// TestCRDUpgrade replaces the first definition by the current one, with existing pools.
func TestCRDUpgrade(t *testing.T) {
	config := start(t)
	o := &testEnv{cluster: connect(t, config), config: config}
	o.createCRD("testdata/storagepools-first.yaml")
	o.must(o.put(poolText("fast", 3, `, options: {network.ping-timeout: "5"}`)))
	before := o.get(storagePools, "fast")
	text, err := os.ReadFile("../../kustomize/base/crds/storagepools.yaml")
	o.must(err)
	u := &unstructured.Unstructured{}
	o.must(yaml.Unmarshal(text, &u.Object))
	o.applyUntilAccepted([]*unstructured.Unstructured{u})
	dir := t.TempDir()
	o.program, o.kubeconfig = build(t, dir, "atoll-reconciler"), dir+"/kubeconfig"
	writeConfig(t, o.kubeconfig, config, token)
	o.createCRD("../../kustomize/components/kadalu/kadalustorages.yaml")
	o.startReconciler()
	o.waitCondition("fast", "Ready", "BricksStarting")
	if after := o.get(storagePools, "fast"); string(after.Spec.Raw) != string(before.Spec.Raw) ||
		after.UID != before.UID || after.Generation != before.Generation {
		t.Errorf("%s\n%s", before.Spec.Raw, after.Spec.Raw)
	}
}

// TestNamespaceDeletion deletes the namespace of a pool that may have data: its condition
// explains why it stays.
func TestNamespaceDeletion(t *testing.T) {
	o := newTestEnv(t)
	ctx := t.Context()
	o.startReconciler()
	o.must(o.put(poolText("fast", 3, ", deletionPolicy: Delete")))
	o.waitCondition("fast", "Ready", "BricksStarting")
	// No namespace controller runs here: this is its first step.
	o.must(o.typed.CoreV1().Namespaces().Delete(ctx, pooltypes.DefaultNamespace, metav1.DeleteOptions{}))
	o.must(o.dynamic.Resource(storagePools).Namespace(pooltypes.DefaultNamespace).DeleteCollection(ctx,
		metav1.DeleteOptions{}, metav1.ListOptions{}))
	c := o.waitCondition("fast", "Ready", "VolumesInUse")
	if !strings.Contains(c.Message, "keeps running") {
		t.Errorf("%+v", c)
	}
	o.patch(storagePools, "fast", fmt.Sprintf(`{"metadata":{"annotations":{"atoll.storage/allow":%q}}}`,
		"bricks-unknown"))
	o.eventually("the pool is deleted", func() bool { return o.get(storagePools, "fast") == nil })
}

// TestFinalizerFirst checks that a pool that is deleted with its resource has its finalizer before any of
// its objects exists: a deletion in between would leave bricks that belong to nothing.
func TestFinalizerFirst(t *testing.T) {
	o := newTestEnv(t)
	o.must(o.put(poolText("fast", 3, ", deletionPolicy: Delete")))
	from := o.get(storagePools, "fast").ResourceVersion
	o.startReconciler()
	finalizer := o.revisionWhen(storagePools, from, func(o metav1.Object) bool { return len(o.GetFinalizers()) > 0 })
	sets := gvr.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}
	brick := o.revisionWhen(sets, from, func(metav1.Object) bool { return true })
	if finalizer > brick {
		t.Errorf("the finalizer was written at revision %d, after the first brick at %d", finalizer, brick)
	}
}

// revisionWhen returns the revision, which counts all writes of the cluster, of the first object since a
// revision that is as wanted.
func (o *testEnv) revisionWhen(resource gvr.GroupVersionResource, since string,
	wanted func(metav1.Object) bool,
) (revision uint64) {
	o.t.Helper()
	o.eventually("an object of "+resource.Resource+" is as wanted", func() bool {
		// A cache that is new in the API server may refuse a watch for a moment.
		w, err := o.dynamic.Resource(resource).Namespace(pooltypes.DefaultNamespace).
			Watch(o.t.Context(), metav1.ListOptions{ResourceVersion: since})
		if err != nil {
			return false
		}
		defer w.Stop()
		limit := time.After(await.Limit)
		for {
			select {
			case <-limit:
				return false
			case e := <-w.ResultChan():
				u, ok := e.Object.(*unstructured.Unstructured)
				if !ok {
					return false // an error, or the end of the watch
				}
				if wanted(u) {
					revision, err = strconv.ParseUint(u.GetResourceVersion(), 10, 64)
					o.must(err)
					return true
				}
			}
		}
	})
	return revision
}
