package pods

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// TestFormerStillRuns moves a brick away from a node that has lost the API server but not the
// network: its pod was deleted by force, and runs on, with a client connected to it. Nothing that
// the client writes goes past the new brick: the former one ends when the others of the set tell
// it, and while they cannot, the new one waits.
func TestFormerStillRuns(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]bool{"and is told": true, "without an agent": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFormerStillRuns(t, told)
		})
	}
}

func testFormerStillRuns(t *testing.T, told bool) {
	const text = `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast}, spec: {type: Replica3, bricks: [
  {node: kube1, path: /srv/b}, {node: %s, path: /srv/b}, {node: kube3, path: /srv/b}]}}`
	const pod = "atoll-fast-1-0"
	c := startPool(t, document(t, fmt.Sprintf(text, "kube2")), disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	connected(t, c, dir, 3)
	files := bricks.Write(t, dir, "before", 20)
	seen(t, c, "kube1", "kube3")
	former, err := c.Lose(pod)
	if err != nil {
		t.Fatal(err)
	}
	if !told {
		if err := former.Kill("agent"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(c.NodePath("kube4", "/srv/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	apply(t, c, document(t, fmt.Sprintf(text, "kube4")))
	started := make(chan error, 1)
	go func() { started <- c.Start(context.Background(), pod) }()
	if !told {
		waitsFor(t, c, pod, former, started)
		if err := former.Kill("glusterfsd"); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; ; i++ {
		maps.Copy(files, bricks.Write(t, dir, fmt.Sprint("meanwhile", i), 3))
		select {
		case err = <-started:
		case <-time.After(time.Second):
			continue
		}
		break
	}
	if err != nil {
		t.Fatal(err)
	}
	if !former.Ended("glusterfsd") {
		t.Error("the new brick serves, and so does the former one")
	}
	maps.Copy(files, bricks.Write(t, dir, "after", 20))
	eventually(t, c, "the new brick has all files",
		func() bool { return contains(c.NodePath("kube4", "/srv/b/brick"), files) })
	if told {
		refusedVolfile(t, c, former)
	}
}

// seen waits until the bricks on some nodes know where the others of their set are.
func seen(t *testing.T, c *podrun.Cluster, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		eventually(t, c, "the brick on "+node+" has seen the others", func() bool {
			text := make([]byte, 4096)
			n, err := unix.Getxattr(c.NodePath(node, "/srv/b/brick/.glusterfs"), ondisk.PlacesAttribute, text)
			if err != nil {
				return false
			}
			places, err := ondisk.DecodePlaces(text[:n])
			return err == nil && len(places) == 2
		})
	}
}

// waitsFor waits until a new brick says that it waits for the one that it replaces, and checks
// that it has not started.
func waitsFor(t *testing.T, c *podrun.Cluster, pod string, former *podrun.Pod, started <-chan error) {
	t.Helper()
	eventually(t, c, "the new brick waits for the former one",
		func() bool { return strings.Contains(c.Log(pod, "join"), `"replacedMayServeAt":["`+former.IP+`"]`) })
	select {
	case err := <-started:
		t.Fatalf("the new brick has started beside the former one: %v", err)
	default:
	}
}

// refusedVolfile checks that the daemons of a brick that was replaced do not start again.
func refusedVolfile(t *testing.T, c *podrun.Cluster, former *podrun.Pod) {
	t.Helper()
	if err := c.Restart(former, "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, "the former brick has ended again", func() bool { return former.Ended("glusterfsd") })
}
