// Command demo shows the main use on this machine: it renders a pool document, writes
// data to the mounted pool, kills a brick, and waits until the pool has healed.
//
// It starts the rendered pods of examples/pools/replica3.yaml as local processes
// on loop devices. It needs root, and removes everything it creates.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// limit is the timeout of the whole demo.
const limit = 15 * time.Minute

func main() {
	podrun.Child()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		os.Exit(1)
	}
}

func run() (err error) {
	if err := checkRequirements(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "atoll-demo-")
	if err != nil {
		return err
	}
	s := &show{ctx: ctx, dir: dir}
	defer func() { err = errors.Join(err, s.end(err)) }()
	for _, step := range []struct {
		name string
		do   func() (string, error)
	}{
		{"build atoll and atoll-brick", s.build},
		{"atoll vet examples/", s.vet},
		{"atoll explain", s.explain},
		{"atoll render", s.render},
		{"create three blank disks (loop devices)", s.disks},
		{"start the brick pods as rendered", s.pods},
		{"mount the pool", s.mount},
		{"write data", s.write},
		{"kill brick 1 (SIGKILL)", s.kill},
		{"read everything back, write more", s.degraded},
		{"restart brick 1; it heals", s.heal},
		{"kill brick 0; read what only a healed brick 1 can serve", s.proof},
	} {
		if err := s.step(step.name, step.do); err != nil {
			return err
		}
	}
	return nil
}

// checkRequirements reports the first requirement that the machine lacks.
func checkRequirements() error {
	if os.Getuid() != 0 {
		return errors.New("root is required, for loop devices, mounts and network namespaces: run 'sudo make demo'")
	}
	for program, pkg := range map[string]string{
		"glusterfsd": "glusterfs-server", "glusterfs": "glusterfs-client",
		"mkfs.xfs": "xfsprogs", "ip": "iproute2",
	} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s from the Debian package %s is required: run 'make deps' as root", program, pkg)
		}
	}
	for _, device := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(device); err != nil {
			return fmt.Errorf("%s is required: %w; pass the device into the container", device, err)
		}
	}
	return nil
}

// build compiles the two programs into the demo's directory.
func (s *show) build() (string, error) {
	cmd := exec.CommandContext(s.ctx, "go", "build", "-o", s.bin()+"/", "./cmd/atoll", "./cmd/atoll-brick")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return "", nil
}

func (s *show) bin() string { return filepath.Join(s.dir, "bin") }

// atoll runs the command line.
func (s *show) atoll(args ...string) (string, error) {
	cmd := exec.CommandContext(s.ctx, filepath.Join(s.bin(), "atoll"), args...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("atoll %v: %w: %s%s", args, err, out, exit.Stderr)
	}
	return string(out), err
}
