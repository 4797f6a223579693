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

// smallest is the smallest size of a volume with XFS, in bytes.
const smallest = 300 << 20

// blockRequest requests a block volume with a file system, or a raw one ("raw").
func blockRequest(name, fileSystem string, size int64, from *csi.VolumeContentSource) *csi.CreateVolumeRequest {
	r := newRequest(name, size, map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"})
	r.VolumeContentSource = from
	c := testbed.Mounted(testbed.ReadWriteOnce)
	if c.GetMount().FsType = fileSystem; fileSystem == "raw" {
		c = testbed.Raw(testbed.ReadWriteOnce)
	}
	r.VolumeCapabilities = []*csi.VolumeCapability{c}
	return r
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id},
	}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id},
	}}
}

func (b *bed) mustSnapshot(name, volume string) *csi.Snapshot {
	b.Helper()
	r := &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume}
	return testbed.MustCall(b.Bed, b.server.CreateSnapshot, r).GetSnapshot()
}

func (b *bed) mustDeleteSnapshot(id string) {
	b.Helper()
	testbed.MustCall(b.Bed, b.server.DeleteSnapshot, &csi.DeleteSnapshotRequest{SnapshotId: id})
}

// sources are volumes of pool p, by ID, and a snapshot of the volume with ext4.
type sources struct{ dir, ext4, xfs, raw, snapshot string }

func newSources(t *testing.T) (*bed, sources) {
	t.Helper()
	both := []schema.Layout{schema.Subdirectory, schema.Block}
	b := newBed(t, entry.Entry{Pool: "p", Layouts: both}, entry.Entry{Pool: "q", Layouts: both})
	s := sources{
		dir:  b.mustCreate(newRequest("dir", 1<<20, map[string]string{"pool": "p"})),
		ext4: b.mustCreate(blockRequest("v", "ext4", smallest, nil)),
		xfs:  b.mustCreate(blockRequest("w", "xfs", smallest, nil)),
		raw:  b.mustCreate(blockRequest("r", "raw", 1<<20, nil)),
	}
	s.snapshot = b.mustSnapshot("s", s.ext4).GetSnapshotId()
	return b, s
}

func TestSnapshotRequests(t *testing.T) {
	b, s := newSources(t)
	type parameters = map[string]string
	for _, test := range []struct {
		name, source string
		parameters   parameters
		code         codes.Code
		message      string
	}{
		{"s", s.ext4, nil, codes.OK, ""},
		{"s", s.ext4, parameters{"pauseLimit": "5m", "csi.storage.k8s.io/volumesnapshot/name": "x"}, codes.OK, ""},
		{"s", s.xfs, nil, codes.AlreadyExists, "is of volume v"},
		{"", s.ext4, nil, codes.InvalidArgument, "name"},
		{"s", "", nil, codes.InvalidArgument, "source volume ID"},
		{strings.Repeat("s", 129), s.ext4, nil, codes.InvalidArgument, "128"},
		{"t", s.dir, nil, codes.InvalidArgument, "layout Block"},
		{"t", "v1.block.p.none", nil, codes.NotFound, ""},
		{"t", "../v", nil, codes.NotFound, ""},
		{"t", s.ext4, parameters{"pauseLimit": "for ever"}, codes.InvalidArgument, "30s or 5m"},
		{"t", s.ext4, parameters{"pause": "5m"}, codes.InvalidArgument, "has pauseLimit"},
	} {
		r := &csi.CreateSnapshotRequest{Name: test.name, SourceVolumeId: test.source, Parameters: test.parameters}
		_, code, message := testbed.Call(b.Bed, b.server.CreateSnapshot, r)
		if code != test.code || !strings.Contains(message, test.message) {
			t.Errorf("%v: %s %s", r, code, message)
		}
	}
	first := b.mustSnapshot("s", s.ext4)
	age := time.Since(first.GetCreationTime().AsTime())
	if first.GetSnapshotId() != "v1.snapshot.p.s" || first.GetSizeBytes() != smallest ||
		!first.GetReadyToUse() || age > time.Minute {
		t.Errorf("snapshot %v", first)
	}
}

func TestCopyRequests(t *testing.T) {
	b, s := newSources(t)
	snapshot, none := fromSnapshot(s.snapshot), "v1.snapshot.p.none"
	for name, test := range map[string]struct {
		volume, fileSystem string
		size               int64
		source             *csi.VolumeContentSource
		code               codes.Code
		message            string
	}{
		"of a snapshot":          {"a", "ext4", smallest, snapshot, codes.OK, ""},
		"repeated":               {"a", "ext4", smallest, snapshot, codes.OK, ""},
		"larger":                 {"b", "ext4", 2 * smallest, snapshot, codes.OK, ""},
		"without size":           {"c", "", 0, snapshot, codes.OK, ""},
		"without size, repeated": {"c", "", 0, snapshot, codes.OK, ""},
		"of a volume":            {"d", "", smallest, fromVolume(s.ext4), codes.OK, ""},
		"raw":                    {"e", "raw", 1 << 20, fromVolume(s.raw), codes.OK, ""},
		"empty volume exists":    {"v", "ext4", smallest, snapshot, codes.AlreadyExists, "copied from nothing"},
		"smaller":                {"x", "ext4", smallest - 1<<20, snapshot, codes.OutOfRange, "at least as many"},
		"other file system":      {"x", "xfs", smallest, snapshot, codes.InvalidArgument, "has ext4"},
		"raw of a file system":   {"x", "raw", smallest, snapshot, codes.InvalidArgument, "has ext4"},
		"file system of raw":     {"x", "xfs", smallest, fromVolume(s.raw), codes.InvalidArgument, "volumeMode Block"},
		"missing snapshot":       {"x", "", smallest, fromSnapshot(none), codes.NotFound, "no such snapshot"},
		"missing volume":         {"x", "", smallest, fromVolume("v1.block.p.none"), codes.NotFound, "no such volume"},
		"of a directory":         {"x", "", smallest, fromVolume(s.dir), codes.InvalidArgument, "layout Block"},
		"hostile ID":             {"x", "", smallest, fromSnapshot("v1.snapshot.p.../../v"), codes.NotFound, ""},
	} {
		r := blockRequest(test.volume, test.fileSystem, test.size, test.source)
		response, code, message := b.create(r)
		if code != test.code || !strings.Contains(message, test.message) {
			t.Errorf("%s: %s %s", name, code, message)
		}
		source := response.GetVolume().GetContentSource()
		if code == codes.OK && source.String() != test.source.String() {
			t.Errorf("%s: the response has the source %v", name, source)
		}
	}
	r := blockRequest("x", "ext4", smallest, snapshot)
	r.Parameters["pool"] = "q"
	_, code, message := b.create(r)
	if code != codes.InvalidArgument || !strings.Contains(message, "pool of its source, p") {
		t.Errorf("in another pool: %s %s", code, message)
	}
}

// TestDeleteSnapshot: a copy survives its source, a repeated request for it succeeds, and
// deleting other IDs touches nothing.
func TestDeleteSnapshot(t *testing.T) {
	b, s := newSources(t)
	request := blockRequest("a", "ext4", smallest, fromSnapshot(s.snapshot))
	id := b.mustCreate(request)
	b.mustDeleteSnapshot(s.snapshot)
	if repeated := b.mustCreate(request); repeated != id {
		t.Errorf("created %s, then %s", id, repeated)
	}
	for _, id := range []string{s.snapshot, "../s", s.ext4, "v1.snapshot.p.../../blocks"} {
		b.mustDeleteSnapshot(id)
	}
	testbed.MustCall(b.Bed, b.server.ControllerGetVolume, &csi.ControllerGetVolumeRequest{VolumeId: s.ext4})
}

// TestSnapshotsAreProvisioned: the ledger has the space of a snapshot until it is deleted, also
// after a restart.
func TestSnapshotsAreProvisioned(t *testing.T) {
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
		bytes, _ := l.Provisioned()
		return bytes
	}
	before := provisioned(b.server)
	snapshot := b.mustSnapshot("s", volume).GetSnapshotId()
	after := provisioned(b.server)
	if after-before < written || after-before > 2*written {
		t.Errorf("the snapshot has %d bytes in the ledger", after-before)
	}
	if read := provisioned(New(b.Pools, b.Locks, b.Log, Config{})); read != after {
		t.Errorf("a new controller reads %d, not %d", read, after)
	}
	b.mustDeleteSnapshot(snapshot)
	if rest := provisioned(b.server); rest != before {
		t.Errorf("after the deletion the ledger has %d, not %d", rest, before)
	}
}

// TestListSnapshots lists by pages, by volume and by ID.
func TestListSnapshots(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Block}}, entry.Entry{Pool: "dirs"})
	var volumes []string
	for v := range 2 {
		volumes = append(volumes, b.mustCreate(blockRequest(fmt.Sprint("v", v), "raw", 1<<20, nil)))
		for s := range 3 {
			b.mustSnapshot(fmt.Sprintf("s%d%d", v, s), volumes[v])
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
	first, token := list(&csi.ListSnapshotsRequest{MaxEntries: 4})
	rest, end := list(&csi.ListSnapshotsRequest{MaxEntries: 4, StartingToken: token})
	all := append(first, rest...)
	if len(all) != 6 || end != "" || all[0] != "v1.snapshot.p.s00" || all[5] != "v1.snapshot.p.s12" {
		t.Errorf("all: %v, token %q", all, end)
	}
	ofVolume, _ := list(&csi.ListSnapshotsRequest{SourceVolumeId: volumes[1]})
	if len(ofVolume) != 3 || ofVolume[0] != "v1.snapshot.p.s10" {
		t.Errorf("of one volume: %v", ofVolume)
	}
	if ids, _ := list(&csi.ListSnapshotsRequest{SnapshotId: "v1.snapshot.p.s11"}); len(ids) != 1 {
		t.Errorf("by ID: %v", ids)
	}
	for _, r := range []*csi.ListSnapshotsRequest{
		{SnapshotId: "v1.snapshot.p.none"},
		{SnapshotId: "none"},
		{SourceVolumeId: "none"},
		{SourceVolumeId: "v1.dir.dirs.x"},
		{SnapshotId: "v1.snapshot.p.s11", SourceVolumeId: volumes[0]},
	} {
		if ids, _ := list(r); len(ids) != 0 {
			t.Errorf("%v: %v", r, ids)
		}
	}
}
