package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernelDir is where tests/deps.sh unpacks the kernel, below the root of the repository.
const kernelDir = ".cache/kernel"

// modules are loaded at boot: disks, and the file systems of the tests.
var modules = []string{"virtio_pci", "virtio_blk", "xfs", "fuse"}

// kernel is a kernel that can be booted.
type kernel struct{ dir, version, image string }

// findKernel looks for the kernel in the directories above the working directory.
func findKernel() (kernel, error) {
	at, err := os.Getwd()
	if err != nil {
		return kernel{}, err
	}
	for {
		dir := filepath.Join(at, kernelDir)
		images, err := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
		if err != nil {
			return kernel{}, err
		}
		if len(images) > 0 {
			_, version, _ := strings.Cut(filepath.Base(images[0]), "-")
			return kernel{dir: dir, version: version, image: images[0]}, nil
		}
		if filepath.Dir(at) == at {
			return kernel{}, errors.New("find kernel: none in " + kernelDir + "; run make deps")
		}
		at = filepath.Dir(at)
	}
}

// moduleFiles lists the files of the modules, each after those that it needs.
func (k kernel) moduleFiles() ([]string, error) {
	var files []string
	seen := map[string]bool{}
	for _, module := range modules {
		args := []string{"--dirname", k.dir, "--set-version", k.version, "--show-depends", module}
		out, err := exec.Command("modprobe", args...).Output()
		if err != nil {
			return nil, fmt.Errorf("find kernel module %s in %s: %w", module, k.dir, err)
		}
		for line := range strings.Lines(string(out)) {
			fields := strings.Fields(line) // "insmod PATH" or "builtin NAME"
			if len(fields) >= 2 && fields[0] == "insmod" && !seen[fields[1]] {
				seen[fields[1]] = true
				files = append(files, fields[1])
			}
		}
	}
	return files, nil
}
