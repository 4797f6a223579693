package rpc

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/schema"
)

// ParameterRawShared is the StorageClass parameter that lets several nodes attach a raw block
// volume at once. It is here, and not with the others, because messages name it.
const ParameterRawShared = "rawReadWriteMany"

// mountOptions are the options of a bind mount that every volume supports.
const mountOptions = "ro, noatime, nodiratime, relatime, nodev, nosuid, noexec"

// modes are the access modes that volumes of files support.
var modes = []csi.VolumeCapability_AccessMode_Mode{
	csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
	csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
	csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
	csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER,
}

// blockModes are the access modes that block volumes support: those of one node. Shared raw
// volumes support MULTI_NODE_MULTI_WRITER too. The other modes of several nodes could not be
// enforced: a node with a device can write to it, even if it is mounted read-only there.
var blockModes = modes[:4]

// CheckWellFormed checks capabilities for what every layout needs.
func CheckWellFormed(all ...*csi.VolumeCapability) error {
	if len(all) == 0 {
		return Invalid("volume capabilities missing")
	}
	for _, c := range all {
		switch {
		case c == nil || c.GetAccessMode() == nil:
			return Invalid("volume capability without access mode")
		case c.GetMount() == nil && c.GetBlock() == nil:
			return Invalid("volume capability without access type")
		case !slices.Contains(modes, c.GetAccessMode().GetMode()):
			return Invalid("unknown access mode %s", c.GetAccessMode().GetMode())
		}
	}
	return nil
}

// CheckLayout checks whether volumes of a layout support a capability.
func CheckLayout(c *csi.VolumeCapability, layout schema.Layout) error {
	if err := CheckWellFormed(c); err != nil {
		return err
	}
	if layout == schema.Block {
		return checkBlock(c)
	}
	switch {
	case c.GetBlock() != nil:
		return Invalid("volumeMode Block needs a class with layout Block")
	case c.GetMount().GetFsType() != "" && c.GetMount().GetFsType() != "glusterfs":
		return Invalid("the file system is GlusterFS, not %q; omit fsType", c.GetMount().GetFsType())
	}
	if _, unknown := bind.Parse(c.GetMount().GetMountFlags()); unknown != "" {
		return Invalid("mount option %q not supported; supported are %s", unknown, mountOptions)
	}
	return nil
}

func checkBlock(c *csi.VolumeCapability) error {
	kind, oneNode := c.GetMount().GetFsType(), slices.Contains(blockModes, c.GetAccessMode().GetMode())
	switch {
	case c.GetMount() != nil && !oneNode:
		return Invalid("access mode %s not supported for file systems on block volumes, "+
			"which one node mounts at a time; use ReadWriteOnce or ReadWriteOncePod, or a class with layout Subdirectory",
			c.GetAccessMode().GetMode())
	case !oneNode && !IsShared(c):
		return Invalid("access mode %s not supported for block volumes: "+
			"nothing would keep other nodes from writing; "+
			"use ReadWriteOnce, ReadWriteOncePod, or ReadWriteMany of a class with %s",
			c.GetAccessMode().GetMode(), ParameterRawShared)
	case c.GetMount() != nil && kind != "" && kind != filesystem.XFS && kind != filesystem.Ext4:
		return Invalid("file system %q not supported on block volumes; use xfs or ext4", kind)
	}
	if _, _, unknown := filesystem.Parse(c.GetMount().GetMountFlags()); unknown != "" {
		return Invalid("mount option %q not supported; supported are %s, discard, nodiscard, lazytime",
			unknown, mountOptions)
	}
	return nil
}

// CheckVolume checks whether a volume supports a capability. Whether it is shared is known
// from its class when it is created, and from its record later.
func CheckVolume(c *csi.VolumeCapability, layout schema.Layout, shared bool) error {
	if err := CheckLayout(c, layout); err != nil || layout != schema.Block {
		return err
	}
	return CheckShared(c, shared)
}

// CheckShared checks a capability of a block volume against whether several nodes may attach
// the volume.
func CheckShared(c *csi.VolumeCapability, shared bool) error {
	switch {
	case !shared && IsShared(c):
		return Invalid("the volume is for one node at a time; ReadWriteMany needs volumeMode Block and "+
			"a class with the parameter %s: \"true\"", ParameterRawShared)
	case shared && c.GetMount() != nil:
		return Invalid("the volume is shared by several nodes, which would corrupt a file system; " +
			"use volumeMode Block, or only ReadWriteOnce")
	case shared && c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		return Invalid("the volume is shared by several nodes, which ReadWriteOncePod excludes; use ReadWriteMany")
	}
	return nil
}

// IsShared reports whether a capability lets several nodes write to a device.
func IsShared(c *csi.VolumeCapability) bool {
	return c.GetBlock() != nil && c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
}

// IsReadOnly reports whether the access mode excludes writing.
func IsReadOnly(c *csi.VolumeCapability) bool {
	switch c.GetAccessMode().GetMode() {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		return true
	}
	return false
}
