package quota

import (
	"context"
	"io"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/brick/quotad"
	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/vm"
)

// TestExternalQuota enforces the size of a volume of an External pool: the quota daemon on the
// host of a real glusterd reads only glusterd's files and the records on the bricks.
func TestExternalQuota(t *testing.T) {
	disks, isInside := vm.Run(t, 512*mib, 512*mib, 512*mib)
	if !isInside {
		return
	}
	var places []string
	for _, disk := range disks {
		places = append(places, filepath.Join(xfs(t, disk, "prjquota"), "brick"))
	}
	g := bricks.StartGlusterd(t, "127.1.2.1")
	g.CreateIn(places, "vol1", "disperse", "3", "redundancy", "1")
	g.Do("volume", "start", "vol1")
	root, err := safepath.Open(g.MountVolume("vol1"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	config := quotad.Config{Glusterd: filepath.Join(g.Dir, "work"), Every: time.Second}
	d := &quotad.Daemon{Config: config, Log: logr.Discard()}
	handler := d.Handler()
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- d.Run(ctx) }()
	pool := backend.Subdirectory{Root: root}
	volume := backend.CreateRequest{Request: "v", Name: "v", Size: 8 * mib, Reclaim: "Delete"}
	if _, err := pool.Create(ctx, volume); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(g.Mounted("vol1"), pool.Place("v"))
	size := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Blocks) * st.Frsize
	}
	g.Eventually("the size of the volume is enforced", func() bool { return size() == 8*mib })
	checkFull(t, at, 8*mib)
	if _, err := pool.Expand(ctx, "v", 16*mib); err != nil {
		t.Fatal(err)
	}
	g.Eventually("the new size of the volume is enforced", func() bool { return size() == 16*mib })
	checkFull(t, at, 16*mib)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(answer.Result().Body)
	for _, want := range []string{
		`atoll_brick_quota_enforced{brick="2",namespace="",pool="vol1"} 1`,
		`atoll_brick_volume_limit_bytes{brick="0",namespace="",pool="vol1",volume="v"} 8.388608e+06`,
	} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %s: %v\n%s", want, err, text)
		}
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
