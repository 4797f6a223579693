package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// writeKubeconfig writes a kubeconfig for a server, and returns its path.
func writeKubeconfig(t *testing.T, c *rest.Config) string {
	t.Helper()
	k := clientcmdapi.NewConfig()
	k.Clusters["c"] = &clientcmdapi.Cluster{Server: c.Host, InsecureSkipTLSVerify: true}
	k.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: c.BearerToken}
	k.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	k.CurrentContext = "c"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*k, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually polls until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	await.True(t, what, ok)
}

// catalogEntry renders an example and returns its catalog entry.
func catalogEntry(t *testing.T, file string) *corev1.ConfigMap {
	t.Helper()
	for _, o := range objects(t, load(t, filepath.Join("../../examples/pools", file))[0]) {
		if m, is := o.(*corev1.ConfigMap); is && m.Labels[entry.Label] == entry.LabelValue {
			return m
		}
	}
	t.Fatalf("%s has no catalog entry", file)
	return nil
}

// TestCatalogFollows checks that a catalog's directory follows the ConfigMaps of a cluster
// when they are created, changed and deleted, and ignores those in other namespaces.
func TestCatalogFollows(t *testing.T) {
	config := start(t)
	c := connect(t, config)
	h := host.Bare(t)
	folder := h.Catalog()
	if _, err := folder.Write("former", map[string]string{entry.KeyEntry: "{"}); err != nil { // of an earlier process
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port(t))
	h.Start("catalog", "--kubeconfig", writeKubeconfig(t, config), "--health", address)
	maps := func(namespace string) interface {
		Create(context.Context, *corev1.ConfigMap, metav1.CreateOptions) (*corev1.ConfigMap, error)
		Update(context.Context, *corev1.ConfigMap, metav1.UpdateOptions) (*corev1.ConfigMap, error)
		Delete(context.Context, string, metav1.DeleteOptions) error
	} {
		return c.typed.CoreV1().ConfigMaps(namespace)
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	eventually(t, "the role is healthy, and entries missing from the cluster are deleted", func() bool {
		answer, err := http.Get("http://" + address + "/healthz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		names, err := folder.Names()
		return err == nil && answer.StatusCode == http.StatusOK && len(names) == 0
	})
	first := catalogEntry(t, "replica1.yaml")
	pool := first.Labels[entry.LabelPool]
	tenant := first.DeepCopy()
	tenant.Namespace, tenant.Labels[entry.LabelPool] = "default", "evil"
	for _, m := range []*corev1.ConfigMap{tenant, first} {
		if _, err := maps(m.Namespace).Create(ctx, m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the catalog has the pool", func() bool {
		p, err := folder.Pool(pool)
		return err == nil && p.Files == first.Data[entry.KeyFiles]
	})
	// A change is atomic: no reader finds half of it.
	changed := first.DeepCopy()
	changed.Data[entry.KeyEntry] = strings.Replace(changed.Data[entry.KeyEntry], `"reclaim": "Delete"`,
		`"reclaim": "Retain"`, 1)
	changed.Data[entry.KeyFiles] += "# changed\n"
	if _, err := maps(first.Namespace).Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for after := schema.ReclaimDelete; after != schema.ReclaimRetain; {
		p, err := folder.Pool(pool)
		if err != nil || (p.Reclaim == schema.ReclaimRetain) != strings.HasSuffix(p.Files, "# changed\n") ||
			ctx.Err() != nil {
			t.Fatalf("during the change: %+v, %v", p, errors.Join(err, ctx.Err()))
		}
		after = p.Reclaim
	}
	// A broken entry affects only its own pool.
	broken := catalogEntry(t, "replica3.yaml")
	broken.Data[entry.KeyEntry] = "{"
	if _, err := maps(broken.Namespace).Create(ctx, broken, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the catalog has the broken pool", func() bool {
		_, err := folder.Pool(broken.Labels[entry.LabelPool])
		return errors.Is(err, catalog.ErrBroken)
	})
	if names, err := folder.Names(); err != nil || !slices.Contains(names, pool) || slices.Contains(names, "evil") {
		t.Errorf("pools %v, %v", names, err)
	}
	if err := maps(first.Namespace).Delete(ctx, first.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the catalog no longer has the pool", func() bool {
		_, err := folder.Pool(pool)
		return errors.Is(err, catalog.ErrNoPool)
	})
	eventually(t, "the directory has no files of the pool", func() bool {
		left, err := filepath.Glob(filepath.Join(folder.Dir, "."+pool+".*"))
		return err == nil && len(left) == 0
	})
}

// TestCatalogKeptOffline checks that the catalog keeps pools while the cluster is unreachable.
func TestCatalogKeptOffline(t *testing.T) {
	h := host.Bare(t)
	if _, err := h.Catalog().Write("p", map[string]string{entry.KeyEntry: "{"}); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port(t))
	h.Start("catalog", "--kubeconfig", writeKubeconfig(t,
		&rest.Config{Host: url("https", port(t)), BearerToken: token}), "--health", address)
	eventually(t, "the role reports itself unhealthy before its first list", func() bool {
		answer, err := http.Get("http://" + address + "/healthz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusServiceUnavailable
	})
	eventually(t, "it has tried to list", func() bool { return strings.Contains(h.Logs(), "connection refused") })
	if _, err := os.Stat(filepath.Join(h.Catalog().Dir, "p", entry.KeyEntry)); err != nil {
		t.Error(err)
	}
}
