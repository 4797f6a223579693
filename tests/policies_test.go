package tests

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/render"
)

// client is a pod that connects to bricks.
type client struct {
	namespace string
	labels    labels.Set
}

// TestNetworkPolicies: with the component, and with pools in another namespace, GlusterFS' port is
// open for bricks and the driver only, and the agents' port for Prometheus and the reconciler too.
func TestNetworkPolicies(t *testing.T) {
	brick := labels.Set{render.LabelPool: "fast", render.LabelBrick: "0", render.LabelSet: "0"}
	program := func(name string) labels.Set { return labels.Set{"app.kubernetes.io/name": name} }
	for namespace, built := range map[string]string{
		"atoll-system": "components: [kustomize/components/network-policy]",
		"elsewhere":    "namespace: elsewhere\nresources: [kustomize/pool-namespace]",
	} {
		policy := buildPolicy(t, built)
		if policy.Namespace != namespace || !selects(t, &policy.Spec.PodSelector, brick) {
			t.Errorf("the policy in %s does not select bricks in %s", policy.Namespace, namespace)
		}
		for name, test := range map[string]struct {
			from           client
			bricks, agents bool
		}{
			"a brick":           {client{namespace, brick}, true, true},
			"the mount server":  {client{"atoll-system", program("atoll-csi-mounter")}, true, true},
			"the controller":    {client{"atoll-system", program("atoll-csi-controller")}, true, true},
			"the reconciler":    {client{"atoll-system", program("atoll-reconciler")}, false, true},
			"Prometheus":        {client{"monitoring", labels.Set{"app": "prometheus"}}, false, true},
			"a tenant":          {client{"default", nil}, false, true},
			"a tenant's brick":  {client{"default", brick}, false, true},
			"a tenant's driver": {client{"default", program("atoll-csi-mounter")}, false, true},
		} {
			if got := admits(t, policy, test.from, render.BrickPort); got != test.bricks {
				t.Errorf("%s: %s may connect to bricks: %v", namespace, name, got)
			}
			if got := admits(t, policy, test.from, render.AgentPort); got != test.agents {
				t.Errorf("%s: %s may connect to agents: %v", namespace, name, got)
			}
		}
	}
}

// buildPolicy builds a kustomization that names directories of the project, and returns its policy.
func buildPolicy(t *testing.T, kustomization string) (p networkingv1.NetworkPolicy) {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "kustomize"), filepath.Join(dir, "kustomize")); err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" + kustomization + "\n"
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if all.Size() != 1 {
		t.Fatalf("%d objects instead of one policy", all.Size())
	}
	out, err := all.AsYaml()
	if err == nil {
		err = yaml.UnmarshalStrict(out, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// admits reports whether a policy admits a connection.
func admits(t *testing.T, p networkingv1.NetworkPolicy, from client, port int32) bool {
	t.Helper()
	return slices.ContainsFunc(p.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
		hasPort := slices.ContainsFunc(r.Ports, func(q networkingv1.NetworkPolicyPort) bool {
			return q.Port.IntVal == port
		})
		isPeer := slices.ContainsFunc(r.From, func(peer networkingv1.NetworkPolicyPeer) bool {
			inNamespace := from.namespace == p.Namespace
			if s := peer.NamespaceSelector; s != nil {
				inNamespace = selects(t, s, labels.Set{"kubernetes.io/metadata.name": from.namespace})
			}
			return inNamespace && selects(t, peer.PodSelector, from.labels)
		})
		return hasPort && (isPeer || len(r.From) == 0)
	})
}

func selects(t *testing.T, s *metav1.LabelSelector, pod labels.Set) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(pod)
}
