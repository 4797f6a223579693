package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/internal/testbed"
	"github.com/atoll-storage/atoll/internal/linux/mounted"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// bed is a node on plain directories, with the volume v in pool p.
type bed struct {
	*testbed.Bed
	server *Server
	root   string // the kubelet's
}

func newBed(t *testing.T, layout schema.Layout) *bed {
	t.Helper()
	b := &bed{Bed: testbed.New(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{layout}}), root: t.TempDir()}
	b.server = New(b.Pools, b.Locks, b.Log, Config{NodeID: "node", KubeletRoot: b.root})
	b.CreateVolume("p", "v", layout)
	t.Cleanup(b.unmountAll)
	return b
}

// unmountAll unmounts everything below the kubelet's root.
func (b *bed) unmountAll() {
	_ = filepath.WalkDir(b.root, func(path string, d os.DirEntry, err error) error {
		for err == nil && d.IsDir() && path != b.root && unix.Unmount(path, unix.MNT_DETACH) == nil {
			continue
		}
		return nil
	})
}

func (b *bed) stagingPath(id string) string { return filepath.Join(b.root, "staging", id) }

func (b *bed) stageAt(id, path string) (code codes.Code, message string) {
	_, code, message = testbed.Call(b.Bed, b.server.NodeStageVolume, &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: path, VolumeCapability: testbed.Mounted(testbed.ReadWriteMany),
	})
	return code, message
}

// mustStage stages a volume and returns its staging path.
func (b *bed) mustStage(id string) string {
	b.Helper()
	if code, message := b.stageAt(id, b.stagingPath(id)); code != codes.OK {
		b.Fatal(message)
	}
	return b.stagingPath(id)
}

func (b *bed) mustUnstage(id string) {
	b.Helper()
	testbed.MustCall(b.Bed, b.server.NodeUnstageVolume,
		&csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.stagingPath(id)})
}

func (b *bed) publish(
	id, pod string, c *csi.VolumeCapability, readOnly bool,
) (path string, code codes.Code, message string) {
	path = filepath.Join(b.root, "pods", pod, "mount")
	_, code, message = testbed.Call(b.Bed, b.server.NodePublishVolume, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: b.stagingPath(id), TargetPath: path, VolumeCapability: c, Readonly: readOnly,
	})
	return path, code, message
}

func (b *bed) mustPublish(id, pod string, c *csi.VolumeCapability, readOnly bool) string {
	b.Helper()
	path, code, message := b.publish(id, pod, c, readOnly)
	if code != codes.OK {
		b.Fatal(message)
	}
	return path
}

func (b *bed) unpublish(id, path string) (code codes.Code, message string) {
	_, code, message = testbed.Call(b.Bed, b.server.NodeUnpublishVolume,
		&csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: path})
	return code, message
}

// stacked counts the mounts at a path.
func (b *bed) stacked(path string) int {
	b.Helper()
	n, err := mounted.Count(path)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

const id = "v1.dir.p.v"

var (
	anyWriter = testbed.Mounted(testbed.ReadWriteMany)
	onePod    = testbed.Mounted(testbed.ReadWriteOncePod)
)

// TestStageAndPublish mounts a volume for two pods and unmounts it, with every call repeated.
func TestStageAndPublish(t *testing.T) {
	b := newBed(t, schema.Subdirectory)
	var staging, one, two string
	for range 2 {
		staging = b.mustStage(id)
	}
	for range 2 {
		one = b.mustPublish(id, "one", anyWriter, false)
		two = b.mustPublish(id, "two", testbed.Mounted(testbed.ReadWriteMany, "noexec"), true)
	}
	for _, path := range []string{staging, one, two} {
		if n := b.stacked(path); n != 1 {
			t.Errorf("%d mounts at %s", n, path)
		}
	}
	if err := os.WriteFile(filepath.Join(one, "f"), []byte("text"), 0o600); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(two, "f")); err != nil || string(text) != "text" {
		t.Errorf("read %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(two, "g"), nil, 0o600); err == nil {
		t.Error("wrote to a read-only volume")
	}
	if m, err := mounted.At(two); err != nil || m == nil || !strings.Contains(m.Options, "noexec") {
		t.Errorf("flags %s", m.Options)
	}
	stats := testbed.MustCall(b.Bed, b.server.NodeGetVolumeStats,
		&csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: one})
	if len(stats.GetUsage()) != 2 {
		t.Errorf("stats %v", stats)
	}
	for range 2 {
		for _, path := range []string{one, two} {
			if code, message := b.unpublish(id, path); code != codes.OK {
				t.Error(message)
			}
		}
		b.mustUnstage(id)
	}
	if _, err := os.Stat(one); !os.IsNotExist(err) || b.stacked(one)+b.stacked(two)+b.stacked(staging) != 0 {
		t.Errorf("not removed: %v", err)
	}
	health := testbed.MustCall(b.Bed, b.server.NodeGetVolumeHealth,
		&csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: one})
	if s := health.GetVolumeHealth().GetHealthStatuses(); len(s) != 1 || s[0].GetReason() != "NotMounted" {
		t.Errorf("health %v", health)
	}
}

// TestReadWriteOncePod: the mode allows one path of the node.
func TestReadWriteOncePod(t *testing.T) {
	b := newBed(t, schema.Subdirectory)
	b.mustStage(id)
	for range 2 {
		b.mustPublish(id, "one", onePod, false)
	}
	if _, code, message := b.publish(id, "two", onePod, false); code != codes.FailedPrecondition ||
		!strings.Contains(message, "pods/one") {
		t.Errorf("%s %s", code, message)
	}
}

// TestWholePool: nothing is mounted at the staging path of a whole pool. The kubelet would find
// that the client has the same root mounted, and never unstage the volume (ADR 0018).
func TestWholePool(t *testing.T) {
	const id = "v1.single.p.v"
	b := newBed(t, schema.Single)
	staging := b.mustStage(id)
	path := ""
	for range 2 {
		path = b.mustPublish(id, "one", onePod, false)
	}
	if at, in := b.stacked(staging), b.stacked(path); at != 0 || in != 1 {
		t.Errorf("%d mounts at the staging path, %d at the target path", at, in)
	}
	if _, code, message := b.publish(id, "two", onePod, false); code != codes.FailedPrecondition ||
		!strings.Contains(message, "pods/one") {
		t.Errorf("%s %s", code, message)
	}
	health := testbed.MustCall(b.Bed, b.server.NodeGetVolumeHealth,
		&csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: path, StagingTargetPath: staging})
	if s := health.GetVolumeHealth().GetHealthStatuses(); len(s) != 0 {
		t.Errorf("health %v", health)
	}
	if code, message := b.unpublish(id, path); code != codes.OK {
		t.Error(message)
	}
	b.mustUnstage(id)
	if b.stacked(path) != 0 {
		t.Error("still mounted")
	}
}

// TestReaderModesAreReadOnly: they never write.
func TestReaderModesAreReadOnly(t *testing.T) {
	b := newBed(t, schema.Subdirectory)
	b.mustStage(id)
	path := b.mustPublish(id, "one", testbed.Mounted(testbed.ReadOnlyMany), false)
	if err := os.WriteFile(filepath.Join(path, "f"), nil, 0o600); err == nil {
		t.Error("wrote to it")
	}
}

// TestMissingVolumeIsAnError: the pod gets an error, not an empty directory.
func TestMissingVolumeIsAnError(t *testing.T) {
	b := newBed(t, schema.Subdirectory)
	path := b.stagingPath("x")
	for _, missing := range []string{"v1.dir.p.none", "v1.dir.none.v", "v1.single.p.v", "../v"} {
		if code, message := b.stageAt(missing, path); code != codes.NotFound && code != codes.InvalidArgument {
			t.Errorf("%s: %s %s", missing, code, message)
		}
	}
	if b.stacked(path) != 0 {
		t.Error("something is mounted")
	}
	if _, code, _ := b.publish(id, "one", anyWriter, false); code != codes.FailedPrecondition {
		t.Errorf("published without being staged: %s", code)
	}
}

// TestPathsStayBelowTheKubeletRoot (CVE-2020-8567, CVE-2020-8568), also across symbolic links
// (CVE-2017-1002101, CVE-2021-25741).
func TestPathsStayBelowTheKubeletRoot(t *testing.T) {
	b := newBed(t, schema.Subdirectory)
	outside := t.TempDir()
	link := filepath.Join(b.root, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/etc", outside, b.root, b.root + "/../x", link + "/x", link, b.root + "x/y",
		"relative", b.root + "/a//b",
	} {
		if code, _ := b.stageAt(id, path); code == codes.OK {
			t.Errorf("staged at %s", path)
		}
		if code, _ := b.unpublish(id, path); code == codes.OK && path != link {
			t.Errorf("unpublished %s", path)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 || b.stacked(outside) > 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

// TestForeignMountIsReplaced: a mount that is not the volume does not stay at its path.
func TestForeignMountIsReplaced(t *testing.T) {
	b := newBed(t, schema.Subdirectory)
	staging := b.stagingPath(id)
	if err := os.MkdirAll(staging, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := unix.Mount("tmpfs", staging, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	b.mustStage(id)
	if m, err := mounted.At(staging); err != nil || m == nil || m.FSType == "tmpfs" || b.stacked(staging) != 1 {
		t.Errorf("mounted is %+v", m)
	}
}
