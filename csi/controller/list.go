package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/csi/controller/params"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// ListVolumes lists the volumes of all pools by ID. A pool that cannot be reached would make
// the list incomplete, so the call fails.
func (s *Server) ListVolumes(ctx context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	entries, err := s.listAll(ctx)
	if err != nil {
		return nil, err
	}
	response := &csi.ListVolumesResponse{}
	response.Entries, response.NextToken, err = page(entries, volumeIDOf, r.GetStartingToken(), r.GetMaxEntries())
	return response, err
}

func volumeIDOf(e *csi.ListVolumesResponse_Entry) string { return e.GetVolume().GetVolumeId() }

// listAll lists the volumes of all pools.
func (s *Server) listAll(ctx context.Context) ([]*csi.ListVolumesResponse_Entry, error) {
	names, err := s.pools.Catalog.Names()
	if err != nil {
		return nil, err
	}
	var entries []*csi.ListVolumesResponse_Entry
	for _, name := range names {
		p, err := s.pools.Catalog.Pool(name)
		if err != nil {
			return nil, err
		}
		for _, layout := range p.Layouts {
			h, err := s.pools.OpenPool(ctx, p, layout)
			if err != nil {
				return nil, err
			}
			volumes, err := h.Backend.List(ctx)
			h.Close()
			if err != nil {
				return nil, fmt.Errorf("list the volumes of pool %s: %w", name, err)
			}
			for _, v := range volumes {
				id := volumeid.ID{Pool: name, Layout: layout, Name: v.Name}
				entries = append(entries,
					&csi.ListVolumesResponse_Entry{Volume: &csi.Volume{VolumeId: id.String(), CapacityBytes: v.Size}})
			}
		}
	}
	return entries, nil
}

// tokenPrefix is the prefix of list tokens. The rest is the last ID of the previous page, so
// that pages stay correct while volumes are created and deleted.
const tokenPrefix = "after:"

// page sorts entries by ID and returns one page of them, and the token of the next page.
func page[E any](entries []E, id func(E) string, token string, limit int32) (cut []E, next string, err error) {
	after, valid := strings.CutPrefix(token, tokenPrefix)
	if token != "" && !valid {
		return nil, "", status.Errorf(codes.Aborted, "list token %q is not from this driver; list from the beginning",
			token)
	}
	if limit < 0 {
		return nil, "", rpc.Invalid("negative max_entries")
	}
	slices.SortFunc(entries, func(a, b E) int { return cmp.Compare(id(a), id(b)) })
	start, _ := slices.BinarySearchFunc(entries, after, func(e E, after string) int {
		if id(e) <= after {
			return -1
		}
		return 1
	})
	entries = entries[start:]
	if n := int(limit); n > 0 && len(entries) > n {
		return entries[:n], tokenPrefix + id(entries[n-1]), nil
	}
	return entries, "", nil
}

// GetCapacity returns how much can still be provisioned in the pools of a class, in sum.
func (s *Server) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	if len(r.GetVolumeCapabilities()) > 0 {
		if err := rpc.CheckWellFormed(r.GetVolumeCapabilities()...); err != nil {
			return &csi.GetCapacityResponse{}, nil //nolint:nilerr // there is no capacity for such volumes
		}
	}
	request := volumeRequest{Params: params.Any(), capabilities: r.GetVolumeCapabilities()}
	if len(r.GetParameters()) > 0 {
		var err error
		if request.Params, err = params.Read(r.GetParameters()); err != nil {
			return nil, err
		}
	}
	pools, problems := s.candidates(ctx, request)
	response := &csi.GetCapacityResponse{}
	for _, h := range pools {
		free, err := s.ledgers.Free(ctx, h, request.Overcommit)
		h.Close()
		if err != nil {
			return nil, err
		}
		response.AvailableCapacity += free
	}
	if len(pools) == 0 && problems != nil {
		return nil, problems
	}
	return response, nil
}
