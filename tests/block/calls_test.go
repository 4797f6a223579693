package block

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/tests/internal/await"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// capability is the capability of a block volume: with a file system, or "" for raw use.
func capability(fileSystem string) *csi.VolumeCapability {
	c := &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
	if fileSystem == "" {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fileSystem}}
	}
	return c
}

// creation requests a block volume.
func creation(name string, capability *csi.VolumeCapability, size int64) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{capability},
		CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		Parameters:    map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"},
	}
}

// created creates a volume as a sidecar does.
func (c *cluster) created(ctx context.Context, r *csi.CreateVolumeRequest) (id string, err error) {
	err = await.Call(ctx, func(ctx context.Context) error {
		answer, err := c.controller.CreateVolume(ctx, r)
		id = answer.GetVolume().GetVolumeId()
		return err
	})
	return id, err
}

// create creates a volume.
func (c *cluster) create(name, fileSystem string, size int64) (id string) {
	c.t.Helper()
	id, err := c.created(c.t.Context(), creation(name, capability(fileSystem), size))
	must(c.t, err)
	return id
}

// deleted deletes a volume as a sidecar does.
func (c *cluster) deleted(ctx context.Context, id string) error {
	return await.Call(ctx, func(ctx context.Context) error {
		_, err := c.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	})
}

// staging is the volume's staging path on the node.
func (n *node) staging(id string) string { return n.h.Path("kubelet/staging/" + id) }

// target is the path of a volume in a pod of the node: a directory, or a device.
func (n *node) target(id string) string { return n.h.Path("kubelet/pods/" + id) }

// tryPublish stages and publishes a volume on the node, once.
func (n *node) tryPublish(ctx context.Context, id string, c *csi.VolumeCapability) error {
	_, err := n.csi.NodeStageVolume(ctx,
		&csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: n.staging(id), VolumeCapability: c})
	if err != nil {
		return err
	}
	_, err = n.csi.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: n.staging(id), TargetPath: n.target(id), VolumeCapability: c,
	})
	return err
}

// publish stages and publishes a volume as a kubelet does.
func (n *node) publish(id, fileSystem string) error {
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	return await.Call(ctx, func(ctx context.Context) error { return n.tryPublish(ctx, id, capability(fileSystem)) })
}

// takeOverPause is between two attempts: each locks the file at some bricks for a moment.
const takeOverPause = 200 * time.Millisecond

// takeOver publishes a volume that another node has, once that is allowed, and returns how long
// it took.
func (n *node) takeOver(id, fileSystem string) time.Duration {
	n.t.Helper()
	begin := time.Now()
	var last error
	await.True(n.t, fmt.Sprintf("node %s has volume %s", n.name, id), func() bool {
		if last = n.publish(id, fileSystem); last != nil {
			time.Sleep(takeOverPause)
		}
		return last == nil
	}, func() string { return fmt.Sprint(last) }, n.h.Logs)
	return time.Since(begin)
}

// refused checks that another node has the volume.
func (n *node) refused(id string) {
	n.t.Helper()
	err := n.publish(id, "")
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "in use") {
		n.t.Errorf("node %s published %s, or failed otherwise: %v", n.name, id, err)
	}
}

// unpublish unpublishes and unstages a volume as a kubelet does.
func (n *node) unpublish(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	if err := await.Call(ctx, func(ctx context.Context) error {
		_, err := n.csi.NodeUnpublishVolume(ctx,
			&csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: n.target(id)})
		return err
	}); err != nil {
		return fmt.Errorf("unpublish: %w", err)
	}
	if err := await.Call(ctx, func(ctx context.Context) error {
		_, err := n.csi.NodeUnstageVolume(ctx,
			&csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: n.staging(id)})
		return err
	}); err != nil {
		return fmt.Errorf("unstage: %w", err)
	}
	return nil
}
