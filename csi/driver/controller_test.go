package driver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// TestParameters holds what a hand-written class may say, and that every refusal
// tells what to write instead.
func TestParameters(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"}, entry.Entry{Pool: "whole", Layouts: []schema.Layout{schema.Single}})
	for _, test := range []struct {
		parameters map[string]string
		code       codes.Code
		says       string
	}{
		{map[string]string{"pool": "p", "csi.storage.k8s.io/pvc/name": "x"}, codes.OK, ""},
		{map[string]string{"pool": "p", "layout": "Subdirectory", "reclaim": "Archive", "overcommit": "1.5"}, codes.OK, ""},
		{map[string]string{}, codes.InvalidArgument, "set the parameter pool or poolSelector"},
		{map[string]string{"storage_name": "p"}, codes.InvalidArgument, "storage_name"}, // the KeyError of a hand-written class
		{map[string]string{"pool": "none"}, codes.NotFound, "is it applied"},
		{map[string]string{"pool": "../p"}, codes.NotFound, "is not a pool's name"},
		{map[string]string{"pool": "p", "layout": "Single"}, codes.InvalidArgument, "no pool fits"},
		{map[string]string{"pool": "p", "layout": "Block"}, codes.InvalidArgument, "no pool fits"},
		{map[string]string{"pool": "p", "reclaim": "Keep"}, codes.InvalidArgument, "Delete, Archive or Retain"},
		{map[string]string{"pool": "p", "overcommit": "0.5"}, codes.InvalidArgument, "from 1"},
		{map[string]string{"pool": "p", "overcommit": "NaN"}, codes.InvalidArgument, "from 1"},
		{map[string]string{"poolSelector": "type"}, codes.InvalidArgument, "type=Replica3"},
		{map[string]string{"poolSelector": "type=Disperse"}, codes.InvalidArgument, "no pool fits"},
	} {
		_, code, message := call(b, b.controller.CreateVolume, createRequest(fmt.Sprint("v", test.parameters), 1<<20, test.parameters))
		if code != test.code || !strings.Contains(message, test.says) {
			t.Errorf("%v: %s %s", test.parameters, code, message)
		}
	}
}

func TestRequests(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	good := func() *csi.CreateVolumeRequest { return createRequest("v", 1<<20, map[string]string{"pool": "p"}) }
	for name, test := range map[string]struct {
		change func(*csi.CreateVolumeRequest)
		code   codes.Code
	}{
		"no name":       {func(r *csi.CreateVolumeRequest) { r.Name = "" }, codes.InvalidArgument},
		"long name":     {func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("n", 129) }, codes.InvalidArgument},
		"hostile name":  {func(r *csi.CreateVolumeRequest) { r.Name = "../../etc" }, codes.OK},
		"block":         {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities[0].AccessType = &csi.VolumeCapability_Block{} }, codes.InvalidArgument},
		"flags":         {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities[0] = capability(anyWriter, "sync") }, codes.InvalidArgument},
		"file system":   {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities[0].GetMount().FsType = "xfs" }, codes.InvalidArgument},
		"negative":      {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = -1 }, codes.InvalidArgument},
		"crossed":       {func(r *csi.CreateVolumeRequest) { r.CapacityRange.LimitBytes = 1 }, codes.OutOfRange},
		"endless":       {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 1 << 62 }, codes.OutOfRange},
		"from a source": {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} }, codes.InvalidArgument},
		"elsewhere": {func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: map[string]string{topologyKey: "absent"}}}}
		}, codes.ResourceExhausted},
		"here": {func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{everywhere()}}
		}, codes.OK},
		"too large": {func(r *csi.CreateVolumeRequest) { r.Name = "large"; r.CapacityRange.RequiredBytes = 1 << 59 }, codes.ResourceExhausted},
	} {
		r := good()
		test.change(r)
		if _, code, message := call(b, b.controller.CreateVolume, r); code != test.code {
			t.Errorf("%s: %s %s", name, code, message)
		}
	}
	if entries, err := os.ReadDir(b.pools.dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the pool: %v, %v", entries, err)
	}
}

// TestHostileIDs: what is no ID of ours is gone already, and touches nothing
// (CVE-2026-3864, CVE-2026-3865).
func TestHostileIDs(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	precious := filepath.Join(b.pools.dir, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"../precious", "v1.dir.p.../../precious", "v1.dir.p./", "v1.dir.p.", "v1.dir.../..", "p#../precious#"} {
		if _, code, message := call(b, b.controller.DeleteVolume, &csi.DeleteVolumeRequest{VolumeId: id}); code != codes.OK {
			t.Errorf("%q: %s %s", id, code, message)
		}
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error("something was deleted")
	}
}

// TestOnePoolInTrouble holds that it is that pool's trouble.
func TestOnePoolInTrouble(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "good"}, entry.Entry{Pool: "bad"})
	if _, err := b.d.Catalog.Write("bad", map[string]string{entry.KeyEntry: "{"}); err != nil {
		t.Fatal(err)
	}
	b.create("a", 1<<20, map[string]string{"pool": "good"})
	b.create("b", 1<<20, map[string]string{"poolSelector": "type=Replica1"})
	if _, code, _ := call(b, b.controller.CreateVolume, createRequest("c", 1<<20, map[string]string{"pool": "bad"})); code != codes.Unavailable {
		t.Errorf("the broken pool: %s", code)
	}
	b.pools.err = fmt.Errorf("%w: brick 2 does not answer", mounts.ErrUnreachable)
	_, code, message := call(b, b.controller.CreateVolume, createRequest("d", 1<<20, map[string]string{"pool": "good"}))
	if code != codes.Unavailable || !strings.Contains(message, "brick 2 does not answer") {
		t.Errorf("%s %s", code, message)
	}
	health, _, _ := call(b, b.controller.ControllerGetVolumeHealth, &csi.ControllerGetVolumeHealthRequest{VolumeId: "v1.dir.good.a"})
	if s := health.GetVolumeHealth().GetHealthStatuses(); len(s) != 1 || s[0].GetReason() != "PoolUnreachable" {
		t.Errorf("health %v", health)
	}
}

// TestRetryFindsItsVolume: when room has changed in between, a repeated request
// still finds its volume in the pool where it was made.
func TestRetryFindsItsVolume(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "a"}, entry.Entry{Pool: "b"})
	class := map[string]string{"pool": "a,b"}
	first := b.create("v", 1<<20, class)
	b.create("filler", 1<<30, map[string]string{"pool": strings.Split(first, ".")[2]})
	if again := b.create("v", 1<<20, class); again != first {
		t.Errorf("first %s, then %s", first, again)
	}
}

// TestReadingOutlivesTheCall: reading the records of a large pool takes longer than a
// sidecar waits, and must not begin anew with every call.
func TestReadingOutlivesTheCall(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	b.pools.hold = make(chan struct{})
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := b.controller.CreateVolume(short, createRequest("v", 1<<20, map[string]string{"pool": "p"}))
	if codeOf(err) != codes.Unavailable || !strings.Contains(err.Error(), "still being read") {
		t.Errorf("while the records are read: %v", err)
	}
	close(b.pools.hold)
	b.create("v", 1<<20, map[string]string{"pool": "p"})
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := strings.Count(b.log.String(), "read the records"); n != 1 {
		t.Errorf("read %d times", n)
	}
}

// TestRepeatWaitsForItsPool: a volume that was begun in a pool, which then went
// away, is not made in another one too.
func TestRepeatWaitsForItsPool(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "a"}, entry.Entry{Pool: "b"})
	r := createRequest("v", 1<<20, map[string]string{"pool": "a,b"})
	b.controller.tried.Store("v", "a") // as a creation that was cut off leaves it
	b.pools.down = map[string]error{"a": fmt.Errorf("%w: for now", mounts.ErrUnreachable)}
	if _, code, message := call(b, b.controller.CreateVolume, r); code != codes.Unavailable || !strings.Contains(message, "pool a, where this volume was begun") {
		t.Errorf("%s %s", code, message)
	}
	b.create("other", 1<<20, map[string]string{"pool": "a,b"}) // others go on
	b.pools.down = nil
	if id := b.create("v", 1<<20, map[string]string{"pool": "a,b"}); id != "v1.dir.a.v" {
		t.Errorf("made as %s", id)
	}
	if _, begun := b.controller.tried.Load("v"); begun {
		t.Error("it still counts as begun")
	}
}

// TestSingleHolder: a second claim learns who has the pool.
func TestSingleHolder(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Single}})
	b.create("first", 1<<20, map[string]string{"pool": "p"})
	_, code, message := call(b, b.controller.CreateVolume, createRequest("second", 1<<20, map[string]string{"pool": "p"}))
	if code != codes.ResourceExhausted || !strings.Contains(message, "first") {
		t.Errorf("%s %s", code, message)
	}
}

// TestSecretsStayOut: neither secrets nor tokens of a request are logged
// (CVE-2023-2878, CVE-2024-3744).
func TestSecretsStayOut(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	r := createRequest("v", 1<<20, map[string]string{"pool": "p"})
	r.Secrets = map[string]string{"password": "hunter2"}
	call(b, b.controller.CreateVolume, r)
	call(b, b.node.NodePublishVolume, &csi.NodePublishVolumeRequest{
		VolumeId: "v1.dir.p.v", Secrets: map[string]string{"a": "hunter2"},
		VolumeContext: map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": "hunter2", "csi.storage.k8s.io/pod.name": "pod-1"},
	})
	if strings.Contains(b.log.String(), "hunter2") || !strings.Contains(b.log.String(), "pod-1") {
		t.Errorf("the log:\n%s", b.log)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	b := newBed(t)
	_, code, _ := call(b, func(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) { panic("oh") }, &csi.ProbeRequest{})
	if code != codes.Internal || !strings.Contains(b.log.String(), "a call panicked") {
		t.Errorf("%s, %s", code, b.log)
	}
}

// TestPages lists in pages while volumes come and go.
func TestPages(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"}, entry.Entry{Pool: "q"})
	for i := range 7 {
		b.create(fmt.Sprint("v", i), 1<<20, map[string]string{"pool": []string{"p", "q"}[i%2]})
	}
	var seen []string
	token := ""
	for page := 0; ; page++ {
		answer, code, message := call(b, b.controller.ListVolumes, &csi.ListVolumesRequest{MaxEntries: 2, StartingToken: token})
		if code != codes.OK {
			t.Fatal(message)
		}
		for _, e := range answer.GetEntries() {
			seen = append(seen, e.GetVolume().GetVolumeId())
		}
		if token = answer.GetNextToken(); token == "" {
			break
		}
		if page == 0 { // what the token names goes away
			call(b, b.controller.DeleteVolume, &csi.DeleteVolumeRequest{VolumeId: seen[1]})
		}
	}
	if len(seen) != 7 || !slices.IsSorted(seen) {
		t.Errorf("listed %v", seen)
	}
	if _, code, _ := call(b, b.controller.ListVolumes, &csi.ListVolumesRequest{StartingToken: "nonsense"}); code != codes.Aborted {
		t.Errorf("a foreign token: %s", code)
	}
}

// TestStorm lets 64 callers create, expand, list and delete at once, with repeats
// and clashes, and holds afterwards that records, folders and promises agree.
func TestStorm(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"}, entry.Entry{Pool: "q"})
	class := map[string]string{"pool": "p,q"}
	var wait sync.WaitGroup
	for worker := range 64 {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 80 {
				name := fmt.Sprint("v", random.IntN(200))
				id := fmt.Sprintf("v1.dir.%s.%s", []string{"p", "q"}[random.IntN(2)], name)
				var code codes.Code
				var message string
				switch random.IntN(5) {
				case 0, 1:
					_, code, message = call(b, b.controller.CreateVolume, createRequest(name, int64(1+random.IntN(3))<<20, class))
				case 2:
					_, code, message = call(b, b.controller.DeleteVolume, &csi.DeleteVolumeRequest{VolumeId: id})
				case 3:
					_, code, message = call(b, b.controller.ControllerExpandVolume, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: int64(1+random.IntN(9)) << 20}})
				case 4:
					_, code, message = call(b, b.controller.ListVolumes, &csi.ListVolumesRequest{})
				}
				if !slices.Contains([]codes.Code{codes.OK, codes.Aborted, codes.NotFound, codes.AlreadyExists}, code) {
					t.Errorf("%s: %s", code, message)
				}
			}
		})
	}
	wait.Wait()
	names := map[string]string{}
	for _, pool := range []string{"p", "q"} {
		o, err := b.d.open(ctx, pool, schema.Subdirectory)
		if err != nil {
			t.Fatal(err)
		}
		volumes, err := o.backend.List(ctx)
		l, ledgerErr := b.controller.ledgers.of(ctx, o)
		if err = errors.Join(err, ledgerErr, o.Close()); err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		for _, v := range volumes {
			sum += v.Size
			if other, twice := names[v.Name]; twice {
				t.Errorf("volume %s is in %s and in %s", v.Name, other, pool)
			}
			names[v.Name] = pool
		}
		placed, err := filepath.Glob(filepath.Join(b.pools.dir, pool, "subvol/*/*/*"))
		promised, n := l.Promised()
		if err != nil || len(placed) != len(volumes) || promised != sum || n != len(volumes) {
			t.Errorf("pool %s: %d folders, %d records with %d bytes, promised %d in %d", pool, len(placed), len(volumes), sum, promised, n)
		}
	}
	if len(names) == 0 {
		t.Error("nothing is left to compare")
	}
}
