package apiserver

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/schema"
)

// TestSource runs the reconciler in folder mode on a symbolic link that changes its target, as
// git-sync updates it.
func TestSource(t *testing.T) {
	o := newTestEnv(t)
	ctx := t.Context()
	root := t.TempDir()
	revision := func(name string, files map[string]string) {
		t.Helper()
		dir := filepath.Join(root, name)
		o.must(os.MkdirAll(dir, 0o755))
		for file, text := range files {
			o.must(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
		}
		link := filepath.Join(root, "next")
		o.must(os.Symlink(name, link))
		o.must(os.Rename(link, filepath.Join(root, "pools")))
	}
	classes := func() string {
		list, err := o.typed.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
		o.must(err)
		var all []string
		for _, c := range list.Items {
			all = append(all, c.Name)
		}
		return strings.Join(all, " ")
	}
	const deletable = ", deletionPolicy: Delete"
	external := "{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: far}, spec: {type: " +
		"External, external: {hosts: [127.9.9.9], volume: v}" + deletable + "}}"
	revision("one", map[string]string{"a.yaml": poolText("a", 3, deletable), "far.yaml": external})
	p := o.startReconciler("--source="+filepath.Join(root, "pools"), "--source-interval=5m")
	o.eventually("both pools are applied", func() bool { return classes() == "atoll.a atoll.far" })
	ready := func(name string) metav1.Condition {
		m, err := o.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).Get(ctx, v1alpha1.StatusName(name),
			metav1.GetOptions{})
		if err != nil {
			return metav1.Condition{}
		}
		p := &v1alpha1.StoragePool{}
		o.must(json.Unmarshal([]byte(m.Data[v1alpha1.StatusKey]), &p.Status))
		return condition(p, "Ready")
	}
	o.eventually("the pool's status is written", func() bool { return ready("far").Reason == "ExternalUnreachable" })
	t.Run("another revision", func(t *testing.T) {
		revision("two", map[string]string{
			"a.yaml": poolText("a", 3, deletable), "far.yaml": external,
			"b.yaml": poolText("b", 3, ""),
		})
		o.eventually("the added pool is applied", func() bool { return classes() == "atoll.a atoll.b atoll.far" })
	})
	t.Run("with an invalid document others are applied and none removed", func(t *testing.T) {
		revision("three", map[string]string{"a.yaml": poolText("a", 2, ""), "c.yaml": poolText("c", 3, "")})
		o.eventually("the valid pool is applied", func() bool { return strings.Contains(classes(), "atoll.c") })
		// The next revision is synced after this one.
		revision("three again", map[string]string{
			"a.yaml": poolText("a", 2, ""), "c.yaml": poolText("c", 3, ""), "d.yaml": poolText("d", 3, ""),
		})
		o.eventually("the next valid pool is applied", func() bool { return strings.Contains(classes(), "atoll.d") })
		if got := classes(); got != "atoll.a atoll.b atoll.c atoll.d atoll.far" {
			t.Error(got)
		}
	})
	t.Run("removed", func(t *testing.T) {
		revision("four", map[string]string{"c.yaml": poolText("c", 3, "")})
		o.eventually("the unused pool with deletionPolicy Delete is removed",
			func() bool { return classes() == "atoll.a atoll.b atoll.c atoll.d" })
		o.eventually("the other pool's condition explains why it stays", func() bool {
			c := ready("a")
			return c.Reason == "VolumesInUse" && strings.Contains(c.Message, "brick 0 (n0:/a) may have files")
		})
		o.eventually("the removed pool's status is deleted", func() bool {
			_, err := o.typed.CoreV1().ConfigMaps(schema.DefaultNamespace).Get(ctx, v1alpha1.StatusName("far"),
				metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
	})
	t.Run("an empty folder removes nothing", func(t *testing.T) {
		revision("five", nil)
		o.eventually("the folder is synced", func() bool { return strings.Contains(p.logged(), "has no documents") })
		revision("six", map[string]string{"wrong.yaml": poolText("a", 2, ""), "e.yaml": poolText("e", 3, "")})
		o.eventually("the next pool is applied", func() bool { return strings.Contains(classes(), "atoll.e") })
		if got := classes(); got != "atoll.a atoll.b atoll.c atoll.d atoll.e" {
			t.Error(got)
		}
	})
}
