package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/atoll-storage/atoll/tests/internal/cluster"
)

// snapshotKinds are the kinds of external-snapshotter that the component needs.
var snapshotKinds = []string{"volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots"}

// installSnapshots installs what clusters with snapshots provide: the kinds, from the module
// that pins the controller, and the controller.
func installSnapshots(ctx context.Context, c *cluster.Cluster) error {
	module := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/kubernetes-csi/external-snapshotter/client/v8")
	module.Dir = "../cluster/binaries/snapshotter"
	dir, err := module.Output()
	if err != nil {
		return fmt.Errorf("find the module of external-snapshotter: %w", err)
	}
	var kinds []string
	for _, kind := range snapshotKinds {
		kinds = append(kinds, "-f",
			filepath.Join(strings.TrimSpace(string(dir)), "config/crd/snapshot.storage.k8s.io_"+kind+".yaml"))
	}
	if _, err := kubectl(ctx, c, "", append([]string{"apply", "--server-side"}, kinds...)...); err != nil {
		return err
	}
	for _, kind := range snapshotKinds {
		if _, err := kubectl(ctx, c, "", "wait", "--for=condition=Established", "crd/"+kind+".snapshot.storage.k8s.io",
			"--timeout=30s"); err != nil {
			return err
		}
	}
	controller, err := os.ReadFile("testdata/snapshot-controller.yaml")
	if err != nil {
		return err
	}
	_, err = kubectl(ctx, c, string(controller), "apply", "--server-side", "-f", "-")
	return err
}
