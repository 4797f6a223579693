package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/linux/mounted"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
)

func isOnePod(r *csi.NodePublishVolumeRequest) bool {
	mode := r.GetVolumeCapability().GetAccessMode().GetMode()
	return mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
}

func errOtherPod(path string) error {
	return fmt.Errorf("%w: the volume is for one pod (ReadWriteOncePod) and is published at %s", rpc.ErrConflict, path)
}

// checkOnePod returns an error if a volume of mode SINGLE_NODE_SINGLE_WRITER is published at
// another path of the node. The kernel's list of mounts decides.
func checkOnePod(r *csi.NodePublishVolumeRequest, dir *safepath.Dir) error {
	if !isOnePod(r) {
		return nil
	}
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return err
	}
	at, err := os.Readlink(dir.Path())
	if err != nil {
		return fmt.Errorf("find the staging path of volume %s: %w", r.GetVolumeId(), err)
	}
	from, err := mounted.Containing(at)
	if err != nil {
		return err
	}
	root := filepath.Join(from.Root, strings.TrimPrefix(at, from.Mountpoint))
	isClient := true // the first mount of a file system is that of its client
	for _, m := range all {
		if m.Major != from.Major || m.Minor != from.Minor {
			continue
		}
		if !isClient && m.Root == root && m.Mountpoint != from.Mountpoint && m.Mountpoint != r.GetTargetPath() {
			return errOtherPod(m.Mountpoint)
		}
		isClient = false
	}
	return nil
}

// checkOnePodDevice is checkOnePod for raw volumes.
func (s *Server) checkOnePodDevice(r *csi.NodePublishVolumeRequest, d blockdev.Device) error {
	if !isOnePod(r) {
		return nil
	}
	paths, err := mountpoint.PublishedDevice(s.config.KubeletRoot, d.Path)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if path != r.GetTargetPath() {
			return errOtherPod(path)
		}
	}
	return nil
}
