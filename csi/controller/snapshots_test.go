package controller

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/internal/testbed"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// smallest is the least that a volume with XFS has, in bytes.
const smallest = 300 << 20

var onBlocks = map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"}

// blockRequest asks for a volume of blocks: with a file system, or "raw".
func blockRequest(name, fileSystem string, size int64, from *csi.VolumeContentSource) *csi.CreateVolumeRequest {
	r := newRequest(name, size, onBlocks)
	r.VolumeContentSource = from
	c := testbed.Mounted(testbed.ReadWriteOnce)
	if c.GetMount().FsType = fileSystem; fileSystem == "raw" {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	}
	r.VolumeCapabilities = []*csi.VolumeCapability{c}
	return r
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

// TestSnapshotRequests holds who gets a snapshot, and who a copy, and what others are told.
func TestSnapshotRequests(t *testing.T) {
	both := []schema.Layout{schema.Subdirectory, schema.Block}
	b := newBed(t, entry.Entry{Pool: "p", Layouts: both}, entry.Entry{Pool: "q", Layouts: both})
	folder := b.mustCreate(newRequest("folder", 1<<20, map[string]string{"pool": "p"}))
	volume := b.mustCreate(blockRequest("v", "ext4", smallest, nil))
	other := b.mustCreate(blockRequest("w", "xfs", smallest, nil))
	raw := b.mustCreate(blockRequest("r", "raw", 1<<20, nil))
	first := testbed.MustCall(b.Bed, b.server.CreateSnapshot,
		&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: volume}).GetSnapshot()
	if first.GetSnapshotId() != "v1.snapshot.p.s" || first.GetSizeBytes() != smallest || !first.GetReadyToUse() ||
		time.Since(first.GetCreationTime().AsTime()) > time.Minute {
		t.Errorf("snapshot %v", first)
	}
	for _, test := range []struct {
		request *csi.CreateSnapshotRequest
		code    codes.Code
		says    string
	}{
		{&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: volume}, codes.OK, ""},
		{&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: volume, Parameters: map[string]string{
			"pauseLimit":                             "5m",
			"csi.storage.k8s.io/volumesnapshot/name": "x",
		}}, codes.OK, ""},
		{&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: other}, codes.AlreadyExists, "is of volume v"},
		{&csi.CreateSnapshotRequest{SourceVolumeId: volume}, codes.InvalidArgument, "name"},
		{&csi.CreateSnapshotRequest{Name: "s"}, codes.InvalidArgument, "source volume ID"},
		{
			&csi.CreateSnapshotRequest{Name: strings.Repeat("s", 129), SourceVolumeId: volume}, codes.InvalidArgument,
			"128",
		},
		{&csi.CreateSnapshotRequest{Name: "t", SourceVolumeId: folder}, codes.InvalidArgument, "layout Block"},
		{&csi.CreateSnapshotRequest{Name: "t", SourceVolumeId: "v1.block.p.none"}, codes.NotFound, ""},
		{&csi.CreateSnapshotRequest{Name: "t", SourceVolumeId: "../v"}, codes.NotFound, ""},
		{&csi.CreateSnapshotRequest{
			Name: "t", SourceVolumeId: volume,
			Parameters: map[string]string{"pauseLimit": "for ever"},
		}, codes.InvalidArgument, "30s or 5m"},
		{
			&csi.CreateSnapshotRequest{Name: "t", SourceVolumeId: volume, Parameters: map[string]string{"pause": "5m"}},
			codes.InvalidArgument, "has pauseLimit",
		},
	} {
		if _, code, message := testbed.Call(b.Bed, b.server.CreateSnapshot, test.request); code != test.code ||
			!strings.Contains(message, test.says) {
			t.Errorf("%v: %s %s", test.request, code, message)
		}
	}
	snapshot := ofSnapshot(first.GetSnapshotId())
	elsewhere := func(r *csi.CreateVolumeRequest) *csi.CreateVolumeRequest {
		r.Parameters = map[string]string{"pool": "q", "layout": "Block"}
		return r
	}
	for name, test := range map[string]struct {
		request *csi.CreateVolumeRequest
		code    codes.Code
		says    string
	}{
		"of a snapshot":   {blockRequest("a", "ext4", smallest, snapshot), codes.OK, ""},
		"again":           {blockRequest("a", "ext4", smallest, snapshot), codes.OK, ""},
		"larger":          {blockRequest("b", "ext4", 2*smallest, snapshot), codes.OK, ""},
		"as it is":        {blockRequest("c", "", 0, snapshot), codes.OK, ""},
		"as it is, again": {blockRequest("c", "", 0, snapshot), codes.OK, ""},
		"of a volume":     {blockRequest("d", "", smallest, ofVolume(volume)), codes.OK, ""},
		"raw":             {blockRequest("e", "raw", 1<<20, ofVolume(raw)), codes.OK, ""},
		"an empty one is there": {
			blockRequest("v", "ext4", smallest, snapshot), codes.AlreadyExists,
			"made of nothing",
		},
		"smaller": {
			blockRequest("x", "ext4", smallest-(1<<20), snapshot), codes.OutOfRange,
			"request at least as many",
		},
		"another file system":  {blockRequest("x", "xfs", smallest, snapshot), codes.InvalidArgument, "has ext4"},
		"raw of a file system": {blockRequest("x", "raw", smallest, snapshot), codes.InvalidArgument, "has ext4"},
		"mounted of raw": {
			blockRequest("x", "xfs", smallest, ofVolume(raw)), codes.InvalidArgument,
			"volumeMode Block",
		},
		"of nothing": {
			blockRequest("x", "", smallest, ofSnapshot("v1.snapshot.p.none")), codes.NotFound,
			"no such snapshot",
		},
		"of no volume": {
			blockRequest("x", "", smallest, ofVolume("v1.block.p.none")), codes.NotFound,
			"no such volume",
		},
		"of a folder": {
			blockRequest("x", "", smallest, ofVolume(folder)), codes.InvalidArgument,
			"layout Block",
		},
		"of somebody else's": {
			elsewhere(blockRequest("x", "ext4", smallest, snapshot)), codes.InvalidArgument,
			"pool of its source, p",
		},
		"hostile": {
			blockRequest("x", "", smallest, ofSnapshot("v1.snapshot.p.../../v")), codes.NotFound,
			"",
		},
	} {
		answer, code, message := testbed.Call(b.Bed, b.server.CreateVolume, test.request)
		if code != test.code || !strings.Contains(message, test.says) {
			t.Errorf("%s: %s %s", name, code, message)
		}
		if code == codes.OK &&
			answer.GetVolume().GetContentSource().String() != test.request.GetVolumeContentSource().String() {
			t.Errorf("%s: the answer has the source %v", name, answer.GetVolume().GetContentSource())
		}
	}
	testbed.MustCall(b.Bed, b.server.DeleteSnapshot, &csi.DeleteSnapshotRequest{SnapshotId: first.GetSnapshotId()})
	testbed.MustCall(b.Bed, b.server.CreateVolume, blockRequest("a", "ext4", smallest, snapshot)) // it is made already
	for _, id := range []string{first.GetSnapshotId(), "../s", volume, "v1.snapshot.p.../../blocks"} {
		testbed.MustCall(b.Bed, b.server.DeleteSnapshot, &csi.DeleteSnapshotRequest{SnapshotId: id})
	}
	testbed.MustCall(b.Bed, b.server.ControllerGetVolume, &csi.ControllerGetVolumeRequest{VolumeId: volume})
}

// TestSnapshotsAreCounted: what a snapshot takes is promised until it is deleted, also after
// a restart.
func TestSnapshotsAreCounted(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Block}})
	volume := b.mustCreate(blockRequest("v", "xfs", smallest, nil))
	const written = 3 << 20
	path := filepath.Join(b.Mounts.Dir, "p", backend.Block{}.Place("v"))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write([]byte(strings.Repeat("x", written)))
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	provisioned := func(s *Server) int64 {
		t.Helper()
		l, err := s.ledgers.Of(t.Context(), b.Open("p", schema.Block))
		if err != nil {
			t.Fatal(err)
		}
		bytes, _ := l.Promised()
		return bytes
	}
	before := provisioned(b.server)
	snapshot := testbed.MustCall(b.Bed, b.server.CreateSnapshot,
		&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: volume}).GetSnapshot().GetSnapshotId()
	after := provisioned(b.server)
	if after-before < written || after-before > 2*written {
		t.Errorf("the snapshot is counted with %d bytes", after-before)
	}
	if again := provisioned(New(b.Pools, b.Locks, b.Log, Config{})); again != after {
		t.Errorf("a new controller counts %d, not %d", again, after)
	}
	testbed.MustCall(b.Bed, b.server.DeleteSnapshot, &csi.DeleteSnapshotRequest{SnapshotId: snapshot})
	if in := provisioned(b.server); in != before {
		t.Errorf("after it was deleted, %d are promised, not %d", in, before)
	}
}

// TestListSnapshots lists by pages, by volume and by ID.
func TestListSnapshots(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Block}}, entry.Entry{Pool: "folders"})
	var volumes []string
	for v := range 2 {
		volumes = append(volumes, b.mustCreate(blockRequest(fmt.Sprint("v", v), "raw", 1<<20, nil)))
		for s := range 3 {
			testbed.MustCall(b.Bed, b.server.CreateSnapshot,
				&csi.CreateSnapshotRequest{Name: fmt.Sprintf("s%d%d", v, s), SourceVolumeId: volumes[v]})
		}
	}
	list := func(r *csi.ListSnapshotsRequest) (ids []string, token string) {
		t.Helper()
		a := testbed.MustCall(b.Bed, b.server.ListSnapshots, r)
		for _, e := range a.GetEntries() {
			ids = append(ids, e.GetSnapshot().GetSnapshotId())
		}
		return ids, a.GetNextToken()
	}
	var all []string
	for token, pages := "", 0; ; pages++ {
		ids, next := list(&csi.ListSnapshotsRequest{MaxEntries: 4, StartingToken: token})
		all = append(all, ids...)
		if token = next; token == "" {
			break
		}
		if pages > 3 {
			t.Fatal("it does not end")
		}
	}
	if len(all) != 6 || all[0] != "v1.snapshot.p.s00" || all[5] != "v1.snapshot.p.s12" {
		t.Errorf("all are %v", all)
	}
	if of, _ := list(&csi.ListSnapshotsRequest{SourceVolumeId: volumes[1]}); len(of) != 3 ||
		of[0] != "v1.snapshot.p.s10" {
		t.Errorf("of one volume: %v", of)
	}
	if one, _ := list(&csi.ListSnapshotsRequest{SnapshotId: "v1.snapshot.p.s11"}); len(one) != 1 {
		t.Errorf("one: %v", one)
	}
	for _, r := range []*csi.ListSnapshotsRequest{
		{SnapshotId: "v1.snapshot.p.none"},
		{SnapshotId: "none"},
		{SourceVolumeId: "none"},
		{SourceVolumeId: "v1.dir.folders.x"},
		{SnapshotId: "v1.snapshot.p.s11", SourceVolumeId: volumes[0]},
	} {
		if none, _ := list(r); len(none) != 0 {
			t.Errorf("%v: %v", r, none)
		}
	}
}
