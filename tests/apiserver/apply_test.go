package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// cluster applies objects as Flux and kubectl --server-side do.
type cluster struct {
	t       *testing.T
	dynamic dynamic.Interface
	typed   kubernetes.Interface
	mapper  meta.RESTMapper

	discover discovery.DiscoveryInterface
}

// freshMapper returns a mapper without cached kinds.
func freshMapper(c *cluster) meta.RESTMapper {
	return restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.discover))
}

func connect(t *testing.T, config *rest.Config) *cluster {
	t.Helper()
	c := connectOnly(t, config)
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	_, err := c.typed.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: schema.DefaultNamespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connectOnly is connect without creating a namespace.
func connectOnly(t *testing.T, config *rest.Config) *cluster {
	t.Helper()
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	discover, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dynamic: d, typed: typed, discover: discover}
	c.mapper = freshMapper(c)
	return c
}

// apply sends one object by server-side apply; unknown fields are errors. It returns
// the object's resource version.
func (c *cluster) apply(o render.Object) (string, error) {
	fields, err := render.Fields(o)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return "", err
	}
	gvk := o.GetObjectKind().GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return "", err
	}
	var client dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		client = c.dynamic.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	var applied *unstructured.Unstructured
	applied, err = client.Patch(ctx, o.GetName(), types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: "atoll-test", FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", gvk.Kind, o.GetName(), err)
	}
	return applied.GetResourceVersion(), nil
}

func load(t *testing.T, paths ...string) []*schema.Pool {
	t.Helper()
	r, err := loader.Load(context.Background(), loader.Options{}, paths...)
	if err != nil {
		t.Fatal(err)
	}
	var pools []*schema.Pool
	for _, d := range r.Documents {
		if !d.Valid {
			t.Fatalf("%s: %v", d.Source, r.Diagnostics)
		}
		pools = append(pools, d.Pool)
	}
	return pools
}

func objects(t *testing.T, p *schema.Pool) []render.Object {
	t.Helper()
	all, err := render.Render(p, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestExamples applies the rendered examples and Kadalu documents twice: the server accepts
// all of them, and the second time changes nothing. Every brick's pod passes admission.
func TestExamples(t *testing.T) {
	c := connect(t, start(t))
	pools := load(t, "../../examples/pools", "../../examples/overlays/production",
		"../../schema/testdata/kadalu/path-replica1.yaml", "../../schema/testdata/kadalu/external-host.yaml")
	for _, p := range pools {
		for _, o := range objects(t, p) {
			first, err := c.apply(o)
			if err != nil {
				t.Errorf("pool %s: %v", p.Metadata.Name, err)
				continue
			}
			if second, err := c.apply(o); err != nil || second != first {
				t.Errorf("pool %s: reapplying %s changes its version from %s to %s, %v", p.Metadata.Name, o.GetName(),
					first, second, err)
			}
			if set, is := o.(*appsv1.StatefulSet); is {
				c.checkAdmission(set)
			}
		}
	}
}

// checkAdmission makes the server validate the pod that a StatefulSet's controller would create.
func (c *cluster) checkAdmission(set *appsv1.StatefulSet) {
	c.t.Helper()
	pod := &corev1.Pod{ObjectMeta: set.Spec.Template.ObjectMeta, Spec: set.Spec.Template.Spec}
	pod.Name, pod.Namespace = set.Name+"-0", set.Namespace
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	created, err := c.typed.CoreV1().Pods(set.Namespace).Create(ctx, pod,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		c.t.Errorf("pod %s: %v", pod.Name, err)
		return
	}
	if created.Spec.Priority == nil || *created.Spec.Priority < 2_000_000_000 {
		c.t.Errorf("pod %s has priority %v", pod.Name, created.Spec.Priority)
	}
}

// TestPlanAgreesWithServer makes one change at a time and checks that plan reports as
// immutable exactly the changes that the server rejects.
func TestPlanAgreesWithServer(t *testing.T) {
	c := connect(t, start(t))
	for i, test := range []struct {
		name   string
		change func(*schema.Spec)
	}{
		{"class parameter", func(s *schema.Spec) { s.StorageClasses[0].Parameters = map[string]string{"a": "c"} }},
		{"class binding mode", func(s *schema.Spec) { s.StorageClasses[0].BindingMode = "WaitForFirstConsumer" }},
		{"class reclaim", func(s *schema.Spec) { s.StorageClasses[0].Reclaim = schema.ReclaimRetain }},
		{"class archive", func(s *schema.Spec) { s.StorageClasses[0].Reclaim = schema.ReclaimArchive }},
		{"class mount options", func(s *schema.Spec) { s.StorageClasses[0].MountOptions = []string{"noatime"} }},
		{"class default", func(s *schema.Spec) { s.StorageClasses[0].Default = true }},
		{"pool reclaim", func(s *schema.Spec) { s.Reclaim = schema.ReclaimRetain }},
		{"layout added", func(s *schema.Spec) { s.Volumes = []schema.Layout{schema.Subdirectory, schema.Block} }},
		{"option", func(s *schema.Spec) { s.Options = map[string]string{"network.ping-timeout": "7"} }},
		{"brick moved", func(s *schema.Spec) { s.Bricks[0].Node = "elsewhere" }},
		{"brick on a claim", func(s *schema.Spec) { s.Bricks[0] = schema.Brick{PVC: "claim"} }},
		{"bricks added", func(s *schema.Spec) { s.Bricks = append(s.Bricks, schema.Brick{Node: "b", Path: "/b"}) }},
		{
			"resources",
			func(s *schema.Spec) { s.Resources = &schema.Resources{Limits: map[string]string{"memory": "2Gi"}} },
		},
		{"tolerations", func(s *schema.Spec) { s.Tolerations = []schema.Toleration{{Key: "a", Operator: "Exists"}} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool := func() *schema.Pool {
				name := fmt.Sprintf("p%d", i)
				return &schema.Pool{Metadata: schema.Metadata{Name: name}, Spec: schema.Spec{
					Type: schema.Replica1, Bricks: []schema.Brick{{Node: "a", Path: "/a"}},
					StorageClasses: []schema.StorageClass{{
						Name:       "extra-" + name,
						Parameters: map[string]string{"a": "b"},
					}},
				}}
			}
			before, after := pool(), pool()
			test.change(&after.Spec)
			for _, o := range objects(t, before) {
				if _, err := c.apply(o); err != nil {
					t.Fatal(err)
				}
			}
			var rejected error
			for _, o := range objects(t, after) {
				if _, err := c.apply(o); err != nil && !apierrors.IsInvalid(err) {
					t.Fatal(err)
				} else if err != nil {
					rejected = errors.Join(rejected, err)
				}
			}
			p, err := plan.Compare([]*schema.Pool{before}, []*schema.Pool{after}, render.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if immutable := strings.Contains(p.String(), "DANGER immutable"); immutable != (rejected != nil) {
				t.Errorf("the server returns %v, plan reports:\n%s", rejected, p)
			}
		})
	}
}
