package apiserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	pooltypes "github.com/atoll-storage/atoll/schema"
)

// kustomized builds a kustomization of the base and components, as users write it.
func kustomized(t *testing.T, components ...string) []*unstructured.Unstructured {
	t.Helper()
	base, err := filepath.Abs("../../kustomize")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	relative := func(path string) string {
		r, err := filepath.Rel(dir, filepath.Join(base, path))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	text := "resources: [" + relative("base") + "]\ncomponents:\n"
	for _, c := range components {
		text += "- " + relative("components/"+c) + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("%v: %v", components, err)
	}
	var all []*unstructured.Unstructured
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &u.Object); err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// bring applies objects again and again, as Flux does, until all are taken.
func (c *cluster) bring(objects []*unstructured.Unstructured) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(objects) > 0 {
		var left []*unstructured.Unstructured
		var last error
		for _, u := range objects {
			if err := c.take(ctx, u); err != nil {
				left, last = append(left, u), fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
			}
		}
		if objects = left; len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatal(last)
		case <-time.After(300 * time.Millisecond):
			c.mapper = freshMapper(c)
		}
	}
}

func (c *cluster) take(ctx context.Context, u *unstructured.Unstructured) error {
	kind := u.GroupVersionKind()
	m, err := c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	options := metav1.ApplyOptions{FieldManager: "kustomize-controller", Force: true}
	if u.GetNamespace() == "" {
		_, err = c.dynamic.Resource(m.Resource).Apply(ctx, u.GetName(), u, options)
	} else {
		_, err = c.dynamic.Resource(m.Resource).Namespace(u.GetNamespace()).Apply(ctx, u.GetName(), u, options)
	}
	return err
}

// TestComponents builds every component on the base.
func TestComponents(t *testing.T) {
	found, err := os.ReadDir("../../kustomize/components")
	if err != nil || len(found) < 4 {
		t.Fatalf("%v %v", found, err)
	}
	plain := len(kustomized(t))
	for _, c := range found {
		all := kustomized(t, c.Name())
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		same, err := json.Marshal(kustomized(t))
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < plain || string(text) == string(same) {
			t.Errorf("%s changes nothing", c.Name())
		}
		if c.Name() == "microk8s" && (strings.Contains(string(text), `"/var/lib/kubelet`) || strings.Contains(string(text), "=/var/lib/kubelet")) {
			t.Errorf("a path of the kubelet is left: %s", text)
		}
	}
}

// TestHardened holds that of all containers only those that mount are privileged, that the
// others have nothing that they do not need, and that roles name what they grant.
func TestHardened(t *testing.T) {
	const hard = `{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"readOnlyRootFilesystem":true}`
	mounts := []string{"controller", "node", "mounter"}
	containers, rules := map[string]bool{}, 0
	for _, u := range kustomized(t, "snapshots") {
		list, _, err := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			container := c.(map[string]any)
			name := container["name"].(string)
			containers[name] = true
			has, err := json.Marshal(container["securityContext"])
			if err != nil {
				t.Fatal(err)
			}
			if string(has) != hard && !slices.Contains(mounts, name) {
				t.Errorf("%s %s: container %s has %s", u.GetKind(), u.GetName(), name, has)
			}
			if _, asked, err := unstructured.NestedMap(container, "resources", "requests"); err != nil || !asked {
				t.Errorf("%s %s: container %s asks for no resources (%v)", u.GetKind(), u.GetName(), name, err)
			}
		}
		granted, _, err := unstructured.NestedSlice(u.Object, "rules")
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range granted {
			rules++
			if text, err := json.Marshal(rule); err != nil || strings.Contains(string(text), "*") {
				t.Errorf("%s %s grants %s (%v)", u.GetKind(), u.GetName(), text, err)
			}
		}
	}
	for _, want := range []string{"reconciler", "provisioner", "attacher", "resizer", "snapshotter", "catalog"} {
		if !containers[want] {
			t.Errorf("there is no container %s", want)
		}
	}
	if rules < 10 {
		t.Errorf("%d rules", rules)
	}
}

// TestMonitoring holds that alerts and dashboard ask for what is measured.
func TestMonitoring(t *testing.T) {
	measured := regexp.MustCompile(`"(atoll_[a-z_]+)"`)
	known := map[string]bool{"gotk_reconcile_condition": true}
	for _, path := range []string{"../../brick/agent/metrics.go", "../../brick/rebalance/serve.go"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range measured.FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = true
		}
	}
	asked := 0
	for _, name := range []string{"alerts.yaml", "atoll-pools.json"} {
		text, err := os.ReadFile("../../kustomize/components/monitoring/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, metric := range regexp.MustCompile(`\b(atoll_brick_|gotk_)[a-z_]+`).FindAllString(string(text), -1) {
			asked++
			if !known[metric] {
				t.Errorf("%s asks for %s, which nobody measures", name, metric)
			}
		}
	}
	if asked < 10 {
		t.Errorf("%d metrics are asked for", asked)
	}
}

// TestBase brings the shipped base and a pool into an empty cluster, the pool first, and
// runs the reconciler as the base's account. The API server's record of what was asked for
// is what the account may do: no less, and no more.
func TestBase(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := start(t, "--audit-policy-file="+policy, "--audit-log-path="+audit)
	o := &operated{cluster: reach(t, config), config: config}
	pool := &unstructured.Unstructured{}
	o.must(yaml.Unmarshal([]byte(poolText("first", 6, ", deletionPolicy: Delete")), &pool.Object))
	pool.SetNamespace(pooltypes.DefaultNamespace)
	o.bring(append(append([]*unstructured.Unstructured{pool}, examples(t)...), kustomized(t, "kadalu")...))
	dir := t.TempDir()
	o.program, o.kubeconfig = build(t, dir, "atoll-reconciler"), filepath.Join(dir, "kubeconfig")
	o.as("atoll-reconciler")
	s := serve(o, 3)
	s.reconciler("--enable-leader-election", "--lease-namespace="+pooltypes.DefaultNamespace)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	s.live(ctx)
	used := s.asked(audit, "system:serviceaccount:atoll-system:atoll-reconciler")
	granted := s.granted(ctx, "atoll-reconciler")
	var created []string // by server-side apply, which is recorded as a patch
	for _, what := range granted {
		patched := "patch" + strings.TrimPrefix(what, "create")
		switch {
		case slices.Contains(used, what):
		case strings.HasPrefix(what, "create ") && slices.Contains(used, patched):
			created = append(created, what)
		default:
			t.Errorf("may %s, and never does", what)
		}
	}
	for _, what := range used {
		if !slices.Contains(granted, what) {
			t.Errorf("asks to %s, and may not", what)
		}
	}
	t.Logf("%d permissions, all used", len(granted))
	s.withoutCreate(ctx, created)
}

// withoutCreate takes away what the record does not show: each of it alone keeps a pool from
// being applied.
func (s *served) withoutCreate(ctx context.Context, created []string) {
	s.t.Helper()
	if len(created) != 6 {
		s.t.Errorf("what is applied: %v", created)
	}
	whole, err := s.typed.RbacV1().ClusterRoles().Get(ctx, "atoll-reconciler", metav1.GetOptions{})
	s.must(err)
	for i, what := range created {
		kind, _, _ := strings.Cut(strings.TrimPrefix(what, "create "), ".")
		role := whole.DeepCopy()
		role.ResourceVersion = ""
		for j := range role.Rules {
			if r := &role.Rules[j]; slices.Contains(r.Resources, kind) {
				other := *r.DeepCopy()
				other.Resources = slices.DeleteFunc(other.Resources, func(o string) bool { return o == kind })
				r.Resources, r.Verbs = []string{kind}, slices.DeleteFunc(r.Verbs, func(v string) bool { return v == "create" })
				if len(other.Resources) > 0 {
					role.Rules = append(role.Rules, other)
				}
			}
		}
		_, err := s.typed.RbacV1().ClusterRoles().Update(ctx, role, metav1.UpdateOptions{})
		s.must(err)
		name := fmt.Sprintf("less-%d", i)
		time.Sleep(time.Second) // until the server's authorizer has it
		s.must(s.put(poolText(name, 6, "")))
		if c := s.conditioned(name, "Ready", "ApplyFailed"); !strings.Contains(c.Message, "a kubeconfig whose user has this permission") {
			s.t.Errorf("without %s: %+v", what, c)
		}
	}
}

// examples are the pools that users are shown, in the namespace of the base.
func examples(t *testing.T) (all []*unstructured.Unstructured) {
	t.Helper()
	paths, err := filepath.Glob("../../examples/pools/*.yaml")
	if err != nil || len(paths) < 8 {
		t.Fatalf("%v %v", paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq("\n"+string(text), "\n---") {
			if strings.Contains(document, "kind: StoragePool") {
				u := parsed(t, document)
				if u.GetName() == "fast" {
					u.SetName("shown")
				}
				all = append(all, u)
			}
		}
	}
	return all
}

// as has the reconciler be a service account.
func (o *operated) as(account string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{}}
	made, err := o.typed.CoreV1().ServiceAccounts(pooltypes.DefaultNamespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	o.must(err)
	writeConfig(o.t, o.kubeconfig, &rest.Config{Host: o.config.Host}, made.Status.Token)
}

// live has a pool have all that pools have in their lives.
func (s *served) live(ctx context.Context) {
	s.t.Helper()
	s.must(s.put(poolText("fast", 3, "")))
	s.conditioned("fast", "Ready", "BricksStarting")
	s.must(s.put(`{apiVersion: kadalu-operator.storage/v1alpha1, kind: KadaluStorage, metadata: {name: old}, spec: {type: Replica1, storage: [{node: k1, path: /k}]}}`))
	s.eventually("the Kadalu pool is seen to", func() bool { return condition(s.get(kadaluStorages, "old"), "Ready").Reason != "" })
	s.eventually("the first pool is seen to", func() bool { return condition(s.get(storagePools, "first"), "Ready").Reason != "" })
	for _, drift := range []func() error{
		func() error {
			return s.typed.CoreV1().Services(pooltypes.DefaultNamespace).Delete(ctx, "atoll-fast", metav1.DeleteOptions{})
		},
		func() error {
			_, err := s.typed.StorageV1().StorageClasses().Patch(ctx, "atoll.fast", "application/merge-patch+json", []byte(`{"metadata":{"labels":{"app.kubernetes.io/name":"x"}}}`), metav1.PatchOptions{})
			return err
		},
	} {
		s.must(drift())
	}
	s.pods("r1")
	s.roll(ctx)
	// What is on no brick goes, with all kinds of objects, when its resource goes.
	s.patch(storagePools, "first", `{"metadata":{"annotations":{"atoll.storage/allow":"bricks-unknown"}}}`)
	s.must(s.dynamic.Resource(storagePools).Namespace(pooltypes.DefaultNamespace).Delete(ctx, "first", metav1.DeleteOptions{}))
	s.eventually("the pool goes", func() bool { return s.get(storagePools, "first") == nil })
	time.Sleep(5 * time.Second) // events and leases come late
}

// right is one thing that an account may do, or has asked for: verb and resource.
func right(verb, group, resource string) string {
	if group != "" {
		resource += "." + group
	}
	return verb + " " + resource
}

// asked reads what a user has asked for from the API server's record.
func (s *served) asked(path, user string) []string {
	s.t.Helper()
	f, err := os.Open(path)
	s.must(err)
	defer f.Close()
	all := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e struct {
			Verb      string
			User      struct{ Username string }
			ObjectRef *struct{ APIGroup, Resource, Subresource, Name string }
		}
		s.must(json.Unmarshal(lines.Bytes(), &e))
		if e.User.Username != user || e.ObjectRef == nil || e.ObjectRef.Resource == "" {
			continue
		}
		if e.ObjectRef.Resource == "selfsubjectaccessreviews" {
			continue
		}
		resource := e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			resource += "/" + e.ObjectRef.Subresource
		}
		all[right(e.Verb, e.ObjectRef.APIGroup, resource)] = true
	}
	var list []string
	for what := range all {
		list = append(list, what)
	}
	slices.Sort(list)
	return list
}

// granted reads what a role of that name grants, for the cluster and for the namespace.
func (s *served) granted(ctx context.Context, name string) []string {
	s.t.Helper()
	cluster, err := s.typed.RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{})
	s.must(err)
	local, err := s.typed.RbacV1().Roles(pooltypes.DefaultNamespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		s.t.Fatal(err)
	}
	var all []string
	for _, r := range append(slices.Clone(cluster.Rules), local.Rules...) {
		all = append(all, rights(r)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func rights(r rbacv1.PolicyRule) (all []string) {
	for _, group := range r.APIGroups {
		for _, resource := range r.Resources {
			for _, verb := range r.Verbs {
				all = append(all, right(verb, group, resource))
			}
		}
	}
	return all
}
