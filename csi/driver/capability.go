package driver

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/schema"
)

// modes are the access modes that volumes of files serve.
var modes = []csi.VolumeCapability_AccessMode_Mode{
	csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
	csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
	csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
	csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER,
}

// blockModes are those that block volumes serve: of one node at a time. Raw ones that are
// shared serve MULTI_NODE_MULTI_WRITER too. Of the other modes of several nodes, nothing
// could be kept: who has a device can write to it, also where its node is mounted read-only.
var blockModes = modes[:4]

// check holds a capability to what volumes of a layout can do.
func check(c *csi.VolumeCapability, layout schema.Layout) error {
	if err := wellFormed([]*csi.VolumeCapability{c}); err != nil {
		return err
	}
	if layout == schema.Block {
		return checkBlock(c)
	}
	switch {
	case c.GetBlock() != nil:
		return invalid("volumeMode Block is not for this class: use one with layout Block")
	case c.GetMount().GetFsType() != "" && c.GetMount().GetFsType() != "glusterfs":
		return invalid("the file system is GlusterFS, not %q: leave out fsType", c.GetMount().GetFsType())
	}
	if _, unknown := bind.Parse(c.GetMount().GetMountFlags()); unknown != "" {
		return invalid("the mount option %q cannot be honoured; allowed are ro, noatime, nodiratime, relatime, nodev, nosuid, noexec", unknown)
	}
	return nil
}

func checkBlock(c *csi.VolumeCapability) error {
	kind, ofOne := c.GetMount().GetFsType(), slices.Contains(blockModes, c.GetAccessMode().GetMode())
	switch {
	case c.GetMount() != nil && !ofOne:
		return invalid("the access mode %s is not for file systems on block volumes: one node has them at a time; use ReadWriteOnce or ReadWriteOncePod, or a class of files",
			c.GetAccessMode().GetMode())
	case !ofOne && !isShared(c):
		return invalid("the access mode %s is not for block volumes: nothing would keep the others from writing; use ReadWriteOnce, ReadWriteOncePod, or ReadWriteMany of a class with %s",
			c.GetAccessMode().GetMode(), parameterRawShared)
	case c.GetMount() != nil && kind != "" && kind != filesystem.XFS && kind != filesystem.Ext4:
		return invalid("the file system %q cannot be had on a block volume: use xfs or ext4", kind)
	}
	if _, _, unknown := filesystem.Parse(c.GetMount().GetMountFlags()); unknown != "" {
		return invalid("the mount option %q cannot be honoured; allowed are ro, noatime, nodiratime, relatime, nodev, nosuid, noexec, discard, nodiscard, lazytime", unknown)
	}
	return nil
}

// checkFor is check for volumes of which it is known whether they are shared: when one is
// made, from its class, and from then on from its record.
func checkFor(c *csi.VolumeCapability, layout schema.Layout, shared bool) error {
	if err := check(c, layout); err != nil || layout != schema.Block {
		return err
	}
	return checkShared(c, shared)
}

// checkShared holds a capability to whether several nodes may have a block volume.
func checkShared(c *csi.VolumeCapability, shared bool) error {
	switch {
	case !shared && isShared(c):
		return invalid("the volume is for one node at a time: ReadWriteMany is for volumeMode Block of a class with the parameter %s: \"true\"", parameterRawShared)
	case shared && c.GetMount() != nil:
		return invalid("several nodes may have the volume, and would destroy a file system of one: use volumeMode Block, or ReadWriteOnce alone")
	case shared && c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		return invalid("several nodes may have the volume, which ReadWriteOncePod would forbid: use ReadWriteMany")
	}
	return nil
}

// isShared reports whether a capability is of several nodes that write to a device.
func isShared(c *csi.VolumeCapability) bool {
	return c.GetBlock() != nil && c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
}

// wellFormed holds capabilities to what no layout can do without.
func wellFormed(all []*csi.VolumeCapability) error {
	if len(all) == 0 {
		return invalid("volume capabilities are needed")
	}
	for _, c := range all {
		switch {
		case c == nil || c.GetAccessMode() == nil:
			return invalid("a volume capability with an access mode is needed")
		case c.GetMount() == nil && c.GetBlock() == nil:
			return invalid("the volume capability names no access type")
		case !slices.Contains(modes, c.GetAccessMode().GetMode()):
			return invalid("the access mode %s is not known", c.GetAccessMode().GetMode())
		}
	}
	return nil
}

func checkAll(all []*csi.VolumeCapability, layout schema.Layout, shared bool) error {
	if len(all) == 0 {
		return invalid("volume capabilities are needed")
	}
	for _, c := range all {
		if err := checkFor(c, layout, shared); err != nil {
			return err
		}
	}
	return nil
}

// readsOnly reports whether the mode never writes.
func readsOnly(c *csi.VolumeCapability) bool {
	switch c.GetAccessMode().GetMode() {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY, csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		return true
	}
	return false
}
