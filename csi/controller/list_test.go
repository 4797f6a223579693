package controller

import (
	"fmt"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/internal/testbed"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// TestListPages lists in pages while a volume is deleted.
func TestListPages(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"}, entry.Entry{Pool: "q"})
	for i := range 7 {
		b.mustCreate(newRequest(fmt.Sprint("v", i), 1<<20, map[string]string{"pool": []string{"p", "q"}[i%2]}))
	}
	var seen []string
	token := ""
	for page := 0; ; page++ {
		response := testbed.MustCall(b.Bed, b.server.ListVolumes,
			&csi.ListVolumesRequest{MaxEntries: 2, StartingToken: token})
		for _, e := range response.GetEntries() {
			seen = append(seen, e.GetVolume().GetVolumeId())
		}
		if token = response.GetNextToken(); token == "" {
			break
		}
		if page == 0 { // the volume that the token names
			b.mustDelete(seen[1])
		}
	}
	if len(seen) != 7 || !slices.IsSorted(seen) {
		t.Errorf("listed %v", seen)
	}
	if _, code, _ := testbed.Call(b.Bed, b.server.ListVolumes,
		&csi.ListVolumesRequest{StartingToken: "nonsense"}); code != codes.Aborted {
		t.Errorf("an unknown token: %s", code)
	}
}
