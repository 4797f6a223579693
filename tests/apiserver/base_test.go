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
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	pooltypes "github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// buildKustomization builds a kustomization of the base and components, as users write them.
func buildKustomization(t *testing.T, components ...string) []*unstructured.Unstructured {
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

// applyUntilAccepted retries applying objects, as Flux does, until the server has accepted all of them.
func (c *cluster) applyUntilAccepted(objects []*unstructured.Unstructured) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	for len(objects) > 0 {
		var left []*unstructured.Unstructured
		var last error
		for _, u := range objects {
			if err := c.applyUnstructured(ctx, u); err != nil {
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

func (c *cluster) applyUnstructured(ctx context.Context, u *unstructured.Unstructured) error {
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
	plain := len(buildKustomization(t))
	for _, c := range found {
		all := buildKustomization(t, c.Name())
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		same, err := json.Marshal(buildKustomization(t))
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < plain || string(text) == string(same) {
			t.Errorf("%s changes nothing", c.Name())
		}
		if c.Name() == "microk8s" && (strings.Contains(string(text), `"/var/lib/kubelet`) ||
			strings.Contains(string(text), "=/var/lib/kubelet")) {
			t.Errorf("the kubelet's default path is left: %s", text)
		}
	}
}

// TestLeastPrivilege checks that only containers that mount are privileged, that all others
// drop every privilege and request resources, and that roles have no wildcards.
func TestLeastPrivilege(t *testing.T) {
	const restricted = `{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"readOnlyRootFilesystem":true}`
	mounts := []string{"controller", "node", "mounter"}
	containers, rules := map[string]bool{}, 0
	for _, u := range buildKustomization(t, "snapshots") {
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
			if string(has) != restricted && !slices.Contains(mounts, name) {
				t.Errorf("%s %s: container %s has %s", u.GetKind(), u.GetName(), name, has)
			}
			if _, found, err := unstructured.NestedMap(container, "resources", "requests"); err != nil || !found {
				t.Errorf("%s %s: container %s requests no resources (%v)", u.GetKind(), u.GetName(), name, err)
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
			t.Errorf("container %s is missing", want)
		}
	}
	if rules < 10 {
		t.Errorf("%d rules", rules)
	}
}

// TestMonitoring checks that every metric that alerts and dashboard query is exported.
func TestMonitoring(t *testing.T) {
	exported := regexp.MustCompile(`"(atoll_[a-z_]+)"`)
	known := map[string]bool{"gotk_reconcile_condition": true}
	for _, path := range []string{
		"../../brick/agent/metrics.go", "../../brick/agent/crashes.go", "../../brick/rebalance/serve.go",
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range exported.FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = true
		}
	}
	queried := 0
	for _, name := range []string{"alerts.yaml", "atoll-pools.json"} {
		text, err := os.ReadFile("../../kustomize/components/monitoring/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, metric := range regexp.MustCompile(`\b(atoll_brick_|gotk_)[a-z_]+`).FindAllString(string(text), -1) {
			queried++
			if !known[metric] {
				t.Errorf("%s queries %s, which no program exports", name, metric)
			}
		}
	}
	if queried < 10 {
		t.Errorf("%d metrics are queried", queried)
	}
}

// TestBasePermissions applies a pool and then the shipped base to an empty cluster, and runs
// the reconciler with the base's service account. The account's permissions must be exactly
// the requests in the API server's audit log.
func TestBasePermissions(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy,
		[]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: "+
			"Metadata}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := start(t, "--audit-policy-file="+policy, "--audit-log-path="+audit)
	o := &testEnv{cluster: connectOnly(t, config), config: config}
	pool := &unstructured.Unstructured{}
	o.must(yaml.Unmarshal([]byte(poolText("first", 6, ", deletionPolicy: Delete")), &pool.Object))
	pool.SetNamespace(pooltypes.DefaultNamespace)
	o.applyUntilAccepted(append(append([]*unstructured.Unstructured{pool}, examplePools(t)...),
		buildKustomization(t, "kadalu")...))
	dir := t.TempDir()
	o.program, o.kubeconfig = build(t, dir, "atoll-reconciler"), filepath.Join(dir, "kubeconfig")
	o.useServiceAccount("atoll-reconciler")
	s := newBrickEnv(o, 3)
	s.startReconciler("--enable-leader-election", "--lease-namespace="+pooltypes.DefaultNamespace)
	ctx := t.Context()
	s.runLifecycle(ctx)
	granted := s.grantedPermissions(ctx, "atoll-reconciler")
	var requested, created, unused []string
	await.True(t, "all permissions are used", func() bool { // events and leases are written late
		requested = s.requestedPermissions(audit, reconcilerUser)
		created, unused = usedPermissions(granted, requested)
		return len(unused) == 0
	}, func() string { return fmt.Sprintf("granted and unused: %q", unused) })
	for _, p := range requested {
		if !slices.Contains(granted, p) {
			t.Errorf("permission %q is requested and not granted", p)
		}
	}
	t.Logf("%d permissions, all used", len(granted))
	s.checkCreateNeeded(ctx, created)
}

// reconcilerUser is the user name of the reconciler's service account.
const reconcilerUser = "system:serviceaccount:" + pooltypes.DefaultNamespace + ":atoll-reconciler"

// usedPermissions returns the granted permissions that no request needed, and the create permissions
// that were used by server-side apply, which the audit log records as a patch.
func usedPermissions(granted, requested []string) (created, unused []string) {
	for _, p := range granted {
		patched := "patch" + strings.TrimPrefix(p, "create")
		switch {
		case slices.Contains(requested, p):
		case strings.HasPrefix(p, "create ") && slices.Contains(requested, patched):
			created = append(created, p)
		default:
			unused = append(unused, p)
		}
	}
	return created, unused
}

// deniedOf lists which of these permissions the reconciler does not have, as the server sees it.
func (s *brickEnv) deniedOf(ctx context.Context, permissions []string) string {
	s.t.Helper()
	var denied []string
	for _, p := range permissions {
		verb, kind, _ := strings.Cut(p, " ")
		kind, group, _ := strings.Cut(kind, ".")
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: reconcilerUser,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: pooltypes.DefaultNamespace, Verb: verb, Group: group, Resource: kind,
			},
		}}
		review, err := s.typed.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		s.must(err)
		if !review.Status.Allowed {
			denied = append(denied, p)
		}
	}
	return strings.Join(denied, ", ")
}

// checkCreateNeeded removes each create permission, which the audit log does not show: without
// any one of them a pool is not applied.
func (s *brickEnv) checkCreateNeeded(ctx context.Context, created []string) {
	s.t.Helper()
	if len(created) != 6 {
		s.t.Errorf("create permissions: %v", created)
	}
	whole, err := s.typed.RbacV1().ClusterRoles().Get(ctx, "atoll-reconciler", metav1.GetOptions{})
	s.must(err)
	for i, permission := range created {
		kind, _, _ := strings.Cut(strings.TrimPrefix(permission, "create "), ".")
		role := whole.DeepCopy()
		role.ResourceVersion = ""
		for j := range role.Rules {
			if r := &role.Rules[j]; slices.Contains(r.Resources, kind) {
				other := *r.DeepCopy()
				other.Resources = slices.DeleteFunc(other.Resources, func(o string) bool { return o == kind })
				r.Resources, r.Verbs = []string{kind}, slices.DeleteFunc(r.Verbs,
					func(v string) bool { return v == "create" })
				if len(other.Resources) > 0 {
					role.Rules = append(role.Rules, other)
				}
			}
		}
		_, err := s.typed.RbacV1().ClusterRoles().Update(ctx, role, metav1.UpdateOptions{})
		s.must(err)
		name := fmt.Sprintf("less-%d", i)
		s.eventually("the server uses the new role", func() bool { return s.deniedOf(ctx, created) == permission })
		s.must(s.put(poolText(name, 6, "")))
		if c := s.waitCondition(name, "Ready", "ApplyFailed"); !strings.Contains(c.Message,
			"grant the user this permission") {
			s.t.Errorf("without %q: %+v", permission, c)
		}
	}
}

// examplePools returns the documented example pools, in the namespace of the base.
func examplePools(t *testing.T) (all []*unstructured.Unstructured) {
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
				u := parseDocument(t, document)
				if u.GetName() == "fast" {
					u.SetName("example")
				}
				all = append(all, u)
			}
		}
	}
	return all
}

// useServiceAccount makes the reconciler use a service account.
func (o *testEnv) useServiceAccount(account string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{}}
	created, err := o.typed.CoreV1().ServiceAccounts(pooltypes.DefaultNamespace).CreateToken(ctx, account, request,
		metav1.CreateOptions{})
	o.must(err)
	writeConfig(o.t, o.kubeconfig, &rest.Config{Host: o.config.Host}, created.Status.Token)
}

// runLifecycle puts pools through every operation: apply, drift, rollout, deletion.
func (s *brickEnv) runLifecycle(ctx context.Context) {
	s.t.Helper()
	s.must(s.put(poolText("fast", 3, "")))
	s.waitCondition("fast", "Ready", "BricksStarting")
	s.must(s.put(`{apiVersion: kadalu-operator.storage/v1alpha1, kind: KadaluStorage, metadata: {name: old}, spec: {type: Replica1, storage: [{node: k1, path: /k}]}}`))
	s.eventually("the Kadalu pool is reconciled", func() bool {
		return condition(s.get(kadaluStorages, "old"),
			"Ready").Reason != ""
	})
	s.eventually("the first pool is reconciled", func() bool {
		return condition(s.get(storagePools, "first"),
			"Ready").Reason != ""
	})
	for _, drift := range []func() error{
		func() error {
			return s.typed.CoreV1().Services(pooltypes.DefaultNamespace).Delete(ctx, "atoll-fast",
				metav1.DeleteOptions{})
		},
		func() error {
			_, err := s.typed.StorageV1().StorageClasses().Patch(ctx, "atoll.fast", "application/merge-patch+json",
				[]byte(`{"metadata":{"labels":{"app.kubernetes.io/name":"x"}}}`), metav1.PatchOptions{})
			return err
		},
	} {
		s.must(drift())
	}
	s.createPods("r1")
	s.checkRollout(ctx)
	// Deleting a resource whose bricks have no data deletes objects of every kind.
	s.patch(storagePools, "first", `{"metadata":{"annotations":{"atoll.storage/allow":"bricks-unknown"}}}`)
	s.must(s.dynamic.Resource(storagePools).Namespace(pooltypes.DefaultNamespace).Delete(ctx, "first",
		metav1.DeleteOptions{}))
	s.eventually("the pool is deleted", func() bool { return s.get(storagePools, "first") == nil })
}

// permission formats a granted or requested permission: verb and resource.
func permission(verb, group, resource string) string {
	if group != "" {
		resource += "." + group
	}
	return verb + " " + resource
}

// requestedPermissions returns the permissions that a user's requests needed, from the API server's audit log.
func (s *brickEnv) requestedPermissions(path, user string) []string {
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
		all[permission(e.Verb, e.ObjectRef.APIGroup, resource)] = true
	}
	var list []string
	for permission := range all {
		list = append(list, permission)
	}
	slices.Sort(list)
	return list
}

// grantedPermissions returns the permissions of the ClusterRole and the Role of that name.
func (s *brickEnv) grantedPermissions(ctx context.Context, name string) []string {
	s.t.Helper()
	cluster, err := s.typed.RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{})
	s.must(err)
	local, err := s.typed.RbacV1().Roles(pooltypes.DefaultNamespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		s.t.Fatal(err)
	}
	var all []string
	for _, r := range append(slices.Clone(cluster.Rules), local.Rules...) {
		all = append(all, permissionsOf(r)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func permissionsOf(r rbacv1.PolicyRule) (all []string) {
	for _, group := range r.APIGroups {
		for _, resource := range r.Resources {
			for _, verb := range r.Verbs {
				all = append(all, permission(verb, group, resource))
			}
		}
	}
	return all
}
