package controller

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/controller/params"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/csi/topology"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// blockUnit is the unit of the sizes of block volumes, in bytes.
const blockUnit = 1 << 20

func roundUp(size int64) int64 { return (size + blockUnit - 1) / blockUnit * blockUnit }

// volumeRequest is a request for a new volume: the parameters of its class, and what the
// request itself adds.
type volumeRequest struct {
	params.Params
	capabilities []*csi.VolumeCapability
	source       contentSource
	sized        bool // the request has a size
	// volume is the request to the backend. What depends on the pool is set when the pool is
	// chosen.
	volume backend.CreateRequest
}

// readVolumeRequest checks a request to create a volume.
func readVolumeRequest(r *csi.CreateVolumeRequest) (v volumeRequest, err error) {
	v.volume = backend.CreateRequest{Request: r.GetName(), Name: volumeid.Name(r.GetName())}
	if err := rpc.CheckName(r.GetName()); err != nil {
		return v, err
	}
	if err := rpc.CheckWellFormed(r.GetVolumeCapabilities()...); err != nil {
		return v, err
	}
	if err := topology.Check(r.GetAccessibilityRequirements()); err != nil {
		return v, err
	}
	if v.Params, err = params.Read(r.GetParameters()); err != nil {
		return v, err
	}
	reclaim, err := params.ReadMutable(r.GetMutableParameters())
	if err != nil {
		return v, err
	}
	v.Reclaim, v.capabilities = cmp.Or(reclaim, v.Reclaim), r.GetVolumeCapabilities()
	if v.source, err = readContentSource(r.GetVolumeContentSource()); err != nil {
		return v, err
	}
	v.sized, v.volume.Source = r.GetCapacityRange().GetRequiredBytes() > 0, v.source.key
	v.volume.Size, v.volume.Limit, err = rpc.ReadCapacity(r.GetCapacityRange())
	return v, err
}

// poolNames returns the names of the pools that may be used: of a copy, that of its source.
func (v volumeRequest) poolNames(c catalog.Folder) ([]string, error) {
	if v.source.pool != "" {
		return []string{v.source.pool}, nil
	}
	if names := v.Names(); len(names) > 0 {
		return names, nil
	}
	return c.Names()
}

// checkPool checks whether volumes of a pool support the requested capabilities.
func (v volumeRequest) checkPool(p catalog.Pool) error {
	for _, c := range v.capabilities {
		if err := rpc.CheckVolume(c, v.LayoutIn(p), v.shared()); err != nil {
			return err
		}
	}
	return nil
}

// shared reports whether several nodes may attach the volume: its class allows that, and the
// request asks for it.
func (v volumeRequest) shared() bool {
	return v.RawShared && slices.ContainsFunc(v.capabilities, rpc.IsShared)
}

// forBlock completes the request for a block volume: its file system, which is usual, or XFS,
// unless the request names another, and enough space for it.
func (v volumeRequest) forBlock(usual string) (volumeRequest, error) {
	b := &v.volume
	b.FileSystem, b.FormatOptions, b.Shared = "", "", v.shared()
	for _, c := range v.capabilities {
		if c.GetMount() != nil {
			b.FileSystem, b.FormatOptions = cmp.Or(c.GetMount().GetFsType(), usual, filesystem.XFS), v.FormatOptions
		}
	}
	if b.FileSystem != "" {
		if _, err := filesystem.Options(b.FileSystem, v.FormatOptions); err != nil {
			return v, rpc.Invalid("parameter %s: %v", params.FormatOptions, err)
		}
	}
	b.Size = roundUp(max(b.Size, filesystem.MinSize[b.FileSystem]))
	if b.Limit > 0 && b.Size > b.Limit {
		return v, fmt.Errorf("%w: a block volume with %s has at least %d bytes, in units of %d", rpc.ErrOutOfRange,
			cmp.Or(b.FileSystem, "no file system"), filesystem.MinSize[b.FileSystem], blockUnit)
	}
	return v, nil
}

// forCopy completes the request for a copy of a source with this size and file system. A
// request without size gets the size of the source. The file systems must be the same.
func (v volumeRequest) forCopy(size int64, fileSystem string) (volumeRequest, error) {
	if !v.sized {
		v.volume.Size = size
	}
	v, err := v.forBlock(fileSystem)
	if err != nil {
		return v, err
	}
	if v.volume.FileSystem != fileSystem {
		return v, rpc.Invalid("the source has %s, and so would the copy; requested is %s", orRaw(fileSystem),
			orRaw(v.volume.FileSystem))
	}
	if v.volume.Size < size {
		return v, fmt.Errorf("%w: the source has %d bytes; request at least as many", rpc.ErrOutOfRange, size)
	}
	return v, nil
}

func orRaw(fileSystem string) string { return cmp.Or(fileSystem, "no file system (volumeMode Block)") }

// String describes which pools the request allows.
func (v volumeRequest) String() string {
	if v.source.pool != "" {
		return fmt.Sprintf("%s, and a copy is created in the pool of its source, %s", v.Params, v.source.pool)
	}
	return v.Params.String()
}
