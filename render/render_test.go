package render_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/schema/loader"
)

var update = flag.Bool("update", false, "write the rendered objects into testdata/golden")

// load reads the pools of one path.
func load(t *testing.T, path string) []*schema.Pool {
	t.Helper()
	r, err := loader.Load(context.Background(), loader.Options{}, path)
	if err != nil {
		t.Fatal(err)
	}
	var pools []*schema.Pool
	for _, d := range r.Documents {
		if !d.Valid {
			t.Fatalf("%s is not valid: %v", path, r.Diagnostics)
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

// TestGolden compares the objects of the examples and of Kadalu's documents with golden files.
func TestGolden(t *testing.T) {
	files, _ := filepath.Glob("../examples/pools/*.yaml")
	kadalu, _ := filepath.Glob("../schema/testdata/kadalu/*.yaml")
	if len(files) != 11 || len(kadalu) == 0 {
		t.Fatalf("%d examples, %d Kadalu documents", len(files), len(kadalu))
	}
	overlays, _ := filepath.Glob("../examples/overlays/*")
	for _, file := range slices.Concat(files, kadalu, overlays) {
		for _, p := range load(t, file) {
			got, err := render.YAML(objects(t, p))
			if err != nil {
				t.Fatal(err)
			}
			again, err := render.YAML(objects(t, p))
			if err != nil || !bytes.Equal(got, again) {
				t.Errorf("%s: a second rendering differs (%v)", file, err)
			}
			golden := filepath.Join("testdata/golden", strings.TrimSuffix(filepath.Base(file), ".yaml")+".yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(golden)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s differs from %s (%v): run go test ./render -update and review the difference", file,
					golden, err)
			}
		}
	}
}

// TestBricksUseNodes: a pod that uses a directory of its node runs in the SELinux domain that may.
func TestBricksUseNodes(t *testing.T) {
	for _, p := range load(t, "../examples/pools") {
		for _, o := range objects(t, p) {
			set, isBrick := o.(*appsv1.StatefulSet)
			if !isBrick {
				continue
			}
			spec := set.Spec.Template.Spec
			usesNode := slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil })
			if c := spec.SecurityContext.SELinuxOptions; usesNode && (c == nil || c.Type != "spc_t") {
				t.Errorf("pool %s, %s: SELinux context %v", p.Metadata.Name, set.Name, c)
			}
		}
	}
}

// TestQuorumSurvivesEvictions evicts pods of each example one by one, as long as the budgets
// allow it, and checks that every set keeps its quorum.
func TestQuorumSurvivesEvictions(t *testing.T) {
	for _, p := range load(t, "../examples/pools") {
		if p.Spec.Type == schema.External {
			continue
		}
		var pods []map[string]string
		var budgets []*policyv1.PodDisruptionBudget
		for _, o := range objects(t, p) {
			switch o := o.(type) {
			case *appsv1.StatefulSet:
				pods = append(pods, o.Spec.Template.Labels)
			case *policyv1.PodDisruptionBudget:
				budgets = append(budgets, o)
			}
		}
		evicted := evictAll(t, pods, budgets)
		size := p.Spec.SetSize()
		for set := range len(p.Spec.Bricks) / size {
			lost := 0
			for i := set * size; i < (set+1)*size; i++ {
				if evicted[i] {
					lost++
				}
			}
			if lost > tolerated(&p.Spec, evicted, set*size) {
				t.Errorf("pool %s: %d bricks of set %d are evicted", p.Metadata.Name, lost, set)
			}
		}
	}
}

// tolerated returns how many bricks of a set may be offline while it is writable.
func tolerated(s *schema.Spec, evicted map[int]bool, first int) int {
	switch s.Type {
	case schema.Replica2:
		if s.Tiebreaker != nil {
			if evicted[len(s.Bricks)] {
				return 0
			}
			return 1
		}
		if evicted[first] {
			return 0
		}
		return 1
	case schema.Replica3, schema.Arbiter:
		return 1
	case schema.Disperse:
		return s.Disperse.Redundancy
	}
	return 0
}

// evictAll evicts the pods that the budgets allow. Pods are in the order of the bricks, the
// tiebreaker last.
func evictAll(t *testing.T, pods []map[string]string, budgets []*policyv1.PodDisruptionBudget) map[int]bool {
	t.Helper()
	evicted := map[int]bool{}
	for i, pod := range pods {
		matching := 0
		allowed := true
		for _, b := range budgets {
			s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			if !s.Matches(labels.Set(pod)) {
				continue
			}
			matching++
			healthy := 0
			for j, other := range pods {
				if s.Matches(labels.Set(other)) && !evicted[j] {
					healthy++
				}
			}
			allowed = allowed && healthy > b.Spec.MinAvailable.IntValue()
		}
		if matching > 1 {
			t.Errorf("pod %v has %d budgets; the eviction API rejects more than one", pod, matching)
		}
		if allowed {
			evicted[i] = true
		}
	}
	return evicted
}

// TestObjectsValid checks names, labels and selectors as an API server would.
func TestObjectsValid(t *testing.T) {
	seen := map[string]string{}
	for _, p := range load(t, "../examples/pools") {
		services := map[string]bool{}
		for _, o := range objects(t, p) {
			gvk := o.GetObjectKind().GroupVersionKind()
			key := gvk.Kind + " " + o.GetNamespace() + "/" + o.GetName()
			if other, found := seen[key]; found || gvk.Version == "" {
				t.Errorf("%s of pool %s: also in pool %s, or without version", key, p.Metadata.Name, other)
			}
			seen[key] = p.Metadata.Name
			switch o := o.(type) {
			case *corev1.Service:
				services[o.Name] = true
			case *appsv1.StatefulSet:
				if !services[o.Spec.ServiceName] || len(o.Name) > 52 {
					t.Errorf("%s: service %s, %d characters", key, o.Spec.ServiceName, len(o.Name))
				}
				s, err := metav1.LabelSelectorAsSelector(o.Spec.Selector)
				if err != nil || !s.Matches(labels.Set(o.Spec.Template.Labels)) {
					t.Errorf("%s does not select its pods: %v", key, err)
				}
				checkContainers(t, key, o.Spec.Template.Spec)
			case *storagev1.StorageClass:
				if o.Parameters[schema.ParameterPool] != p.Metadata.Name || o.Provisioner != schema.DriverName {
					t.Errorf("%s: %v", key, o.Parameters)
				}
			}
		}
	}
}

// checkContainers checks that mounted volumes exist, and that containers have a security
// context and requests.
func checkContainers(t *testing.T, key string, pod corev1.PodSpec) {
	t.Helper()
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s, container %s: no volume %s", key, c.Name, m.Name)
			}
		}
		if c.SecurityContext == nil || c.Resources.Requests == nil {
			t.Errorf("%s, container %s has no security context or no requests", key, c.Name)
		}
	}
}

// TestCatalogDecodes decodes the catalog entries as the driver does.
func TestCatalogDecodes(t *testing.T) {
	for _, p := range load(t, "../examples/pools") {
		found := false
		for _, o := range objects(t, p) {
			c, ok := o.(*corev1.ConfigMap)
			if !ok || c.Labels[catalog.Label] != catalog.LabelValue {
				continue
			}
			found = true
			e, err := catalog.Decode([]byte(c.Data[catalog.KeyEntry]))
			if err != nil || e.Pool != p.Metadata.Name {
				t.Errorf("%s: %v", c.Name, err)
			}
			for i, b := range e.Bricks {
				if !strings.Contains(c.Data[catalog.KeyFiles], b.Host) {
					t.Errorf("%s: brick %d is not in %s", c.Name, i, catalog.KeyFiles)
				}
			}
			if _, found := c.Data[catalog.KeyBlocks]; found != p.Spec.Serves(schema.Block) {
				t.Errorf("%s: has a graph for block volumes: %t", c.Name, found)
			}
		}
		if !found {
			t.Errorf("pool %s has no catalog entry", p.Metadata.Name)
		}
	}
}

func TestVolumeID(t *testing.T) {
	p := &schema.Pool{Metadata: schema.Metadata{Name: "a"}}
	if a, b := render.VolumeID(p, ""), render.VolumeID(p, "other"); a == b ||
		a != "dd91fcba-ab50-5b27-87eb-14c1b4daa583" {
		t.Errorf("volume IDs %s, %s", a, b)
	}
	p.Spec.VolumeID = "64220cb5-c301-41b1-b4f1-e5756b3171dc"
	if got := render.VolumeID(p, ""); got != p.Spec.VolumeID {
		t.Errorf("volume ID %s", got)
	}
}

func TestTooBig(t *testing.T) {
	p := &schema.Pool{Metadata: schema.Metadata{Name: "a"}, Spec: schema.Spec{Type: schema.Replica1}}
	for range 3000 {
		p.Spec.Bricks = append(p.Spec.Bricks, schema.Brick{PVC: "c"})
	}
	if _, err := render.Render(p, render.Options{}); err == nil || !strings.Contains(err.Error(), "split the pool") {
		t.Errorf("error %v", err)
	}
}
