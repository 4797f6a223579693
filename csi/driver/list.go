package driver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/schema/volumeid"
)

// tokenPrefix marks tokens of lists; the rest is the last ID of the page
// before, so that pages stay right while volumes come and go.
const tokenPrefix = "after:"

// ListVolumes lists the volumes of all pools by ID. A pool that is out of reach
// makes the list incomplete, and so the call fails.
func (c *controller) ListVolumes(ctx context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	entries, err := c.all(ctx)
	if err != nil {
		return nil, err
	}
	answer := &csi.ListVolumesResponse{}
	answer.Entries, answer.NextToken, err = page(entries, func(e *csi.ListVolumesResponse_Entry) string { return e.GetVolume().GetVolumeId() }, r.GetStartingToken(), r.GetMaxEntries())
	return answer, err
}

// page cuts one page out of what is sorted by ID, and gives the token for the next.
func page[E any](entries []E, id func(E) string, token string, most int32) (cut []E, next string, err error) {
	after, valid := strings.CutPrefix(token, tokenPrefix)
	if token != "" && !valid {
		return nil, "", status.Errorf(codes.Aborted, "the token %q is not one of this driver: list from the beginning", token)
	}
	if most < 0 {
		return nil, "", invalid("max_entries is not negative")
	}
	start, _ := slices.BinarySearchFunc(entries, after, func(e E, after string) int {
		if id(e) <= after {
			return -1
		}
		return 1
	})
	entries = entries[start:]
	if n := int(most); n > 0 && len(entries) > n {
		return entries[:n], tokenPrefix + id(entries[n-1]), nil
	}
	return entries, "", nil
}

// all reads the volumes of all pools, sorted by ID.
func (c *controller) all(ctx context.Context) ([]*csi.ListVolumesResponse_Entry, error) {
	names, err := c.d.Catalog.Names()
	if err != nil {
		return nil, err
	}
	var entries []*csi.ListVolumesResponse_Entry
	for _, name := range names {
		p, err := c.d.Catalog.Pool(name)
		if err != nil {
			return nil, err
		}
		for _, layout := range p.Layouts {
			o, err := c.d.openPool(ctx, p, layout)
			if err != nil {
				return nil, err
			}
			volumes, err := o.backend.List(ctx)
			o.Close()
			if err != nil {
				return nil, fmt.Errorf("listing pool %s: %w", name, err)
			}
			for _, v := range volumes {
				id := volumeid.ID{Pool: name, Layout: layout, Name: v.Name}
				entries = append(entries, &csi.ListVolumesResponse_Entry{Volume: &csi.Volume{VolumeId: id.String(), CapacityBytes: v.Size}})
			}
		}
	}
	slices.SortFunc(entries, func(a, b *csi.ListVolumesResponse_Entry) int {
		return cmp.Compare(a.GetVolume().GetVolumeId(), b.GetVolume().GetVolumeId())
	})
	return entries, nil
}

// GetCapacity tells what the pools of a class can still promise: the most that
// one volume can have, and the sum.
func (c *controller) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	if len(r.GetVolumeCapabilities()) > 0 {
		if err := wellFormed(r.GetVolumeCapabilities()); err != nil {
			return &csi.GetCapacityResponse{}, nil //nolint:nilerr // nothing of that kind can be had
		}
	}
	k := class{selector: map[string]string{}, overcommit: 1}
	if len(r.GetParameters()) > 0 {
		var err error
		if k, err = readClass(r.GetParameters()); err != nil {
			return nil, err
		}
	}
	k.capabilities = r.GetVolumeCapabilities()
	pools, troubles := c.candidates(ctx, k)
	answer := &csi.GetCapacityResponse{}
	for _, o := range pools {
		free, err := c.free(ctx, o, k)
		o.Close()
		if err != nil {
			return nil, err
		}
		answer.AvailableCapacity += free
	}
	if len(pools) == 0 && troubles != nil {
		return nil, troubles
	}
	return answer, nil
}
