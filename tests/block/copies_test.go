package block

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// startCopies starts a pool of a kind with nodes. If shared, its bricks have agents and are on a file
// system that shares content.
func startCopies(t *testing.T, k kind, shared bool, names ...string) *copying {
	t.Helper()
	shape := k.shape
	if shared {
		k.shape = func(p *volfile.Pool) {
			if shape != nil {
				shape(p)
			}
			bricks.OnXFS(t, p)
		}
	}
	c := &copying{cluster: startKind(t, k, names...), h: host.Bare(t)}
	_, c.h.Network = c.add()
	keys := t.TempDir()
	if shared {
		keys = bricks.Keys(t)
		c.bricks.StartAgents(c.h.Build("atoll-brick"), keys)
	}
	c.bricks.Catalog(c.h.Catalog(), schema.Block)
	c.args = []string{
		"--endpoint", "unix://" + c.h.Path("controller.sock"), "--mounts", c.h.Path("controller-mounts"),
		"--agent-keys", keys,
	}
	c.startController()
	return c
}

// copying is a cluster with a controller that uses the agents and can be killed.
type copying struct {
	*cluster
	h       *host.Host // of the controller
	process *exec.Cmd
	args    []string
}

func (c *copying) startController() {
	c.process = c.h.Start("controller", c.args...)
	c.controller = csi.NewControllerClient(c.h.Dial("controller.sock"))
}

// copySize is the size of volumes that are copied, in bytes: little more than XFS needs.
const copySize = 320 << 20

// snapshot creates a snapshot as a sidecar does.
func (c *copying) snapshot(name, of string) (id string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	must(c.t, await.Call(ctx, func(ctx context.Context) (err error) {
		id, err = c.trySnapshot(name, of, nil)
		return err
	}))
	return id
}

// startSnapshot requests a snapshot and ignores the response: a process is killed before it.
func (c *copying) startSnapshot(name, of string) {
	go func() { _, _ = c.trySnapshot(name, of, nil) }()
}

// trySnapshot requests a snapshot once.
func (c *copying) trySnapshot(name, of string, parameters map[string]string) (id string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	made, err := c.controller.CreateSnapshot(ctx,
		&csi.CreateSnapshotRequest{Name: name, SourceVolumeId: of, Parameters: parameters})
	return made.GetSnapshot().GetSnapshotId(), err
}

// copied creates a volume from a snapshot or another volume.
func (c *copying) copied(name, fileSystem string, size int64, from *csi.VolumeContentSource) string {
	c.t.Helper()
	r := creation(name, capability(fileSystem), size)
	r.VolumeContentSource = from
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	id, err := c.created(ctx, r)
	must(c.t, err)
	return id
}

func ofSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{
		Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}},
	}
}

func ofVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{
		Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}},
	}
}

// remove deletes volumes and snapshots.
func (c *copying) remove(volumes []string, snapshots ...string) {
	c.t.Helper()
	for _, id := range volumes {
		must(c.t, c.deleted(c.t.Context(), id))
	}
	for _, id := range snapshots {
		must(c.t, await.Call(c.t.Context(), func(ctx context.Context) error {
			_, err := c.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
			return err
		}))
	}
}

// empty waits until the bricks have no file.
func (c *copying) empty() {
	c.t.Helper()
	c.bricks.Eventually("the bricks have no file", func() bool {
		for _, b := range c.bricks.Pool.Bricks {
			left, err := exec.Command("find", filepath.Join(b.Directory, "blocks"), "-type", "f").Output()
			if err != nil || len(left) > 0 {
				return false
			}
		}
		return true
	})
}

// listed checks that 'atoll volumes list' shows the snapshot, and the source of a clone.
func (c *copying) listed() {
	c.t.Helper()
	out, err := exec.Command("nsenter", "--net="+c.h.Network, c.h.Build("atoll"), "volumes", "--catalog",
		c.h.Path("catalog"), "list", "p", "-o", "json").Output()
	var all struct {
		Volumes   []struct{ Name, Source string }
		Snapshots []struct{ Name, Volume string }
	}
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil || len(all.Snapshots) != 1 || all.Snapshots[0].Name != "snap-1" ||
		all.Snapshots[0].Volume != "pvc-1" || len(all.Volumes) != 2 || all.Volumes[1].Source != "volume/pvc-1" {
		c.t.Errorf("listed %s, %v", out, err)
	}
}

// alike checks that all bricks with content of a file have the same content.
func (c *copying) alike(patterns ...string) {
	c.t.Helper()
	if c.bricks.Pool.Type == schema.Disperse {
		return // each has a fragment
	}
	for _, pattern := range patterns {
		sums := map[string][]string{}
		for _, b := range c.bricks.Pool.Bricks {
			found, _ := filepath.Glob(filepath.Join(b.Directory, pattern))
			for _, path := range found {
				info, err := os.Stat(path)
				if err != nil || info.Size() == 0 {
					continue // on an arbiter, or a pointer to another set
				}
				out, err := exec.Command("sha1sum", path).Output()
				must(c.t, err)
				sum, _, _ := strings.Cut(string(out), " ")
				sums[sum] = append(sums[sum], path)
			}
		}
		if len(sums) != 1 {
			c.t.Errorf("the bricks have different content: %v", sums)
		}
	}
}
