package gluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// external loads a pool document, renders it, and decodes the catalog entry as the driver does.
func external(t *testing.T, spec string) gluster.Server {
	t.Helper()
	text := "apiVersion: atoll.storage/v1alpha1\nkind: StoragePool\nmetadata: {name: ext}\nspec: {type: External, external: " + spec + "}\n"
	r, err := loader.Load(context.Background(), loader.Options{Stdin: strings.NewReader(text)}, "-")
	if err != nil || len(r.Diagnostics) > 0 {
		t.Fatalf("load: %v %v", r.Diagnostics, err)
	}
	objects, err := render.Render(r.Documents[0].Pool, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if m, is := o.(*corev1.ConfigMap); is {
			e, err := catalog.Decode([]byte(m.Data[catalog.KeyEntry]))
			if err != nil {
				t.Fatal(err)
			}
			return gluster.Server{
				Hosts: e.External.Hosts, Port: e.External.Port, Volume: e.External.Volume,
				Options: e.External.Options,
			}
		}
	}
	t.Fatal("no catalog entry")
	return gluster.Server{}
}

// mountServer starts a client and waits for the root of the mount.
func mountServer(t *testing.T, g *bricks.Glusterd, s gluster.Server, limit time.Duration) (string, error) {
	t.Helper()
	dir, err := os.MkdirTemp(g.Dir, "mount-")
	if err != nil {
		t.Fatal(err)
	}
	args, err := s.Args(dir)
	if err != nil {
		t.Fatal(err)
	}
	g.Run("glusterfs", append([]string{"-l", dir + ".log"}, args...)...)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return dir, gluster.WaitMounted(ctx, dir)
}

// TestExternal mounts a volume of a real glusterd from a pool document whose first host is down.
func TestExternal(t *testing.T) {
	t.Parallel()
	g := bricks.StartGlusterd(t, "127.1.1.1")
	g.Create("vol1", 3, "replica", "3")
	g.Do("volume", "start", "vol1")
	dir, err := mountServer(t, g,
		external(t, "{hosts: [127.1.1.99, 127.1.1.1], volume: vol1, options: [log-level=INFO, acl]}"), await.Limit)
	if err != nil {
		t.Fatal(err)
	}
	written := bricks.Write(t, dir, "file", 20)
	written.Verify(t, dir)
	for i := range 3 {
		for name := range written {
			if _, err := os.Stat(filepath.Join(g.Dir, fmt.Sprintf("brick-vol1-%d", i), name)); err != nil {
				t.Errorf("brick %d: %v", i, err)
			}
		}
	}
}

// TestExternalNotMounted checks that a volume that is stopped or does not exist is not reported as
// mounted.
func TestExternalNotMounted(t *testing.T) {
	t.Parallel()
	g := bricks.StartGlusterd(t, "127.1.1.2")
	g.Create("stopped", 1)
	for _, volume := range []string{"stopped", "missing"} {
		if dir, err := mountServer(t, g, external(t, "{hosts: [127.1.1.2], volume: "+volume+"}"),
			3*time.Second); err == nil {
			t.Errorf("volume %s is reported as mounted at %s", volume, dir)
		}
	}
}
