package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/atoll-storage/atoll/tests/internal/cluster/images"
)

// Paths in the project's cache directory.
const (
	cacheDir    = ".cache"
	archiveName = "images.tar"
)

// Images of test pods.
const (
	Busybox = "docker.io/library/busybox:1"
	Ledger  = "docker.io/library/ledger:1" // busybox with tests/e2e/ledger
)

// Default returns the cluster of 'make cluster-up': three nodes, each with four sparse disks
// of 10 GiB.
func Default(dir string) Spec {
	cache := filepath.Dir(dir)
	return Spec{
		Dir: dir, Programs: filepath.Join(cache, "bin"), Archive: filepath.Join(cache, "images", archiveName),
		Nodes: 3, Disks: 4, DiskSize: 10 << 30, External: []string{"vol1", "media", "kadalu"},
	}
}

// projectPrograms lists the programs of this project that have images.
var projectPrograms = []string{"atoll-brick", "atoll-csi", "atoll-reconciler", "atoll"}

// BuildImages writes the image archive of the project in a directory: images of its
// Dockerfile, sidecars, and images of test pods.
func BuildImages(ctx context.Context, project string, report func(string)) error {
	for _, name := range projectPrograms {
		if err := compile(ctx, project, filepath.Join("bin", "linux-"+runtime.GOARCH, name),
			"./cmd/"+name); err != nil {
			return err
		}
	}
	cache := filepath.Join(project, cacheDir, "images")
	report("building images")
	built, err := images.Build(ctx, project, cache)
	if err != nil {
		return err
	}
	list := map[string]images.Image{"docker.io/library/atoll-gluster:10.3": built["atoll-gluster"]}
	for _, name := range projectPrograms {
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
		if list[ref], err = images.Program(cache, filepath.Join(project, cacheDir, "bin", program),
			"/"+program); err != nil {
			return err
		}
	}
	if list[Busybox], err = images.Busybox(cache); err != nil {
		return err
	}
	list[pause] = list[Busybox].WithEntrypoint("sleep", "2147483647")
	// Images of Kubernetes' storage suite, agnhost only if it was built (make e2e-k8s).
	for _, ref := range []string{"busybox:1.37.0-1", "nginx:1.15-4"} { // the suite uses only nginx' shell
		list["registry.k8s.io/e2e-test-images/"+ref] = list[Busybox]
	}
	// The suite needs Debian's dd, for oflag=nocache, and Debian's shell: busybox' shell runs
	// busybox' dd whatever the PATH has.
	glibc := list[Busybox]
	for _, program := range []string{"/bin/dd", "/bin/sh"} {
		if glibc, err = glibc.WithHostProgram(cache, program); err != nil {
			return err
		}
	}
	list["registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0"] = glibc
	agnhost := filepath.Join(project, cacheDir, "bin", "agnhost")
	if _, err := os.Stat(agnhost); err == nil {
		with, err := list[Busybox].WithFile(cache, agnhost, "/agnhost")
		if err != nil {
			return err
		}
		list["registry.k8s.io/e2e-test-images/agnhost:2.63.0"] = with.WithEntrypoint("/agnhost")
	}
	ledger := filepath.Join("bin", "linux-"+runtime.GOARCH, "ledger")
	if err := compile(ctx, project, ledger, "./tests/e2e/ledger"); err != nil {
		return err
	}
	if list[Ledger], err = list[Busybox].WithFile(cache, filepath.Join(project, ledger), "/bin/ledger"); err != nil {
		return err
	}
	return images.Write(filepath.Join(cache, archiveName), list)
}

// compile builds a statically linked program, for images without a C library.
func compile(ctx context.Context, project, to, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Dir, cmd.Env = project, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w: %s", pkg, err, out)
	}
	return nil
}
