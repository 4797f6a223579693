package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/atoll-storage/atoll/tests/cluster/images"
)

// The files that the cluster has in the project's cache, by the make targets that make them.
const (
	cacheDir    = ".cache"
	archiveName = "images.tar"
)

// Images that pods of tests run.
const (
	Busybox = "docker.io/library/busybox:1"
	Ledger  = "docker.io/library/ledger:1" // busybox with tests/e2e/ledger
)

// Default is the cluster of 'make cluster-up': three nodes, each with four disks of 10 GB,
// which take no more than what is written to them.
func Default(dir string) Spec {
	cache := filepath.Dir(dir)
	return Spec{
		Dir: dir, Programs: filepath.Join(cache, "bin"), Archive: filepath.Join(cache, "images", archiveName),
		Nodes: 3, Disks: 4, DiskSize: 10 << 30, External: []string{"vol1", "media", "kadalu"},
	}
}

// ours are the programs of this project that have images.
var ours = []string{"atoll-brick", "atoll-csi", "atoll-reconciler", "atoll"}

// BuildImages makes the archive for the project in a folder: its own images by its
// Dockerfile, the sidecars, and what pods of tests run.
func BuildImages(ctx context.Context, project string, say func(string)) error {
	for _, name := range ours {
		if err := compile(ctx, project, filepath.Join("bin", "linux-"+runtime.GOARCH, name), "./cmd/"+name); err != nil {
			return err
		}
	}
	cache := filepath.Join(project, cacheDir, "images")
	say("building images")
	built, err := images.Build(ctx, project, cache)
	if err != nil {
		return err
	}
	list := map[string]images.Image{"docker.io/library/atoll-gluster:10.3": built["atoll-gluster"]}
	for _, name := range ours {
		list["docker.io/library/"+name+":v0"] = built[name]
		list["docker.io/library/"+name+":v1"] = built[name] // to upgrade to
	}
	for ref, program := range map[string]string{
		"registry.k8s.io/sig-storage/csi-provisioner:v6.4.0":     "csi-provisioner",
		"registry.k8s.io/sig-storage/csi-attacher:v4.13.0":       "csi-attacher",
		"registry.k8s.io/sig-storage/csi-resizer:v2.3.0":         "csi-resizer",
		"registry.k8s.io/sig-storage/csi-snapshotter:v8.7.0":     "csi-snapshotter",
		"registry.k8s.io/sig-storage/snapshot-controller:v8.7.0": "snapshot-controller",
	} {
		if list[ref], err = images.Program(cache, filepath.Join(project, cacheDir, "bin", program), "/"+program); err != nil {
			return err
		}
	}
	if list[Busybox], err = images.Busybox(cache); err != nil {
		return err
	}
	list[pause] = list[Busybox].Runs("sleep", "2147483647")
	// What Kubernetes' storage suite runs, if it was built (make e2e-k8s).
	for _, ref := range []string{"busybox:1.37.0-1", "nginx:1.15-4"} { // of nginx, only the shell
		list["registry.k8s.io/e2e-test-images/"+ref] = list[Busybox]
	}
	// Of this, Debian's dd, which knows oflag=nocache, and its shell: busybox' runs its own dd,
	// whatever the path has.
	glibc := list[Busybox]
	for _, program := range []string{"/bin/dd", "/bin/sh"} {
		if glibc, err = glibc.WithHost(cache, program); err != nil {
			return err
		}
	}
	list["registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0"] = glibc
	agnhost := filepath.Join(project, cacheDir, "bin", "agnhost")
	if _, err := os.Stat(agnhost); err == nil {
		with, err := list[Busybox].With(cache, agnhost, "/agnhost")
		if err != nil {
			return err
		}
		list["registry.k8s.io/e2e-test-images/agnhost:2.63.0"] = with.Runs("/agnhost")
	}
	ledger := filepath.Join("bin", "linux-"+runtime.GOARCH, "ledger")
	if err := compile(ctx, project, ledger, "./tests/e2e/ledger"); err != nil {
		return err
	}
	if list[Ledger], err = list[Busybox].With(cache, filepath.Join(project, ledger), "/bin/ledger"); err != nil {
		return err
	}
	return images.Write(filepath.Join(cache, archiveName), list)
}

// compile links a program statically, as images without a C library need it.
func compile(ctx context.Context, project, to, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Dir, cmd.Env = project, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w: %s", pkg, err, out)
	}
	return nil
}
