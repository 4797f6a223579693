package podrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
)

// process is a started container.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // of Wait, once done is closed
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.kill())
	}
}

func (p *process) kill() error {
	if p == nil || p.ended() {
		return nil
	}
	err := p.cmd.Process.Kill()
	<-p.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// stop sends SIGTERM, and returns an error if the process does not end within the grace period.
func (p *process) stop(grace time.Duration) error {
	if p.ended() {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		return errors.Join(fmt.Errorf("still running %s after SIGTERM", grace), p.kill())
	}
}

// start starts a container of a pod.
func (c *Cluster) start(p *Pod, spec corev1.Container) (*process, error) {
	set := setup{
		Hostname: p.Name, Network: p.namespace, Command: spec.Command, Hosts: c.hostsFile(),
		Root: filepath.Join(c.Dir, p.dir, "root-"+spec.Name), Program: c.Program,
	}
	if spec.Name == "agent" && c.FreshFor > 0 {
		set.Command = append(slices.Clone(set.Command), "--fresh-for="+c.FreshFor.String())
	}
	if spec.Name == "agent" && c.SettleFor > 0 {
		set.Command = append(slices.Clone(set.Command), "--settle-for="+c.SettleFor.String())
	}
	if spec.Name == "volfiles" && c.Hold > 0 {
		set.Command = append(slices.Clone(set.Command), "--hold="+c.Hold.String())
	}
	if err := os.MkdirAll(set.Root, 0o755); err != nil {
		return nil, err
	}
	set.permissions(spec.SecurityContext)
	for _, m := range spec.VolumeMounts {
		for _, v := range p.spec.Volumes {
			if v.Name != m.Name {
				continue
			}
			from, err := c.volume(p, v)
			if err != nil {
				return nil, fmt.Errorf("pod %s: %w", p.Name, err)
			}
			shared := m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationBidirectional
			follows := m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationHostToContainer
			set.Mounts = append(set.Mounts,
				bind{From: from, To: m.MountPath, ReadOnly: m.ReadOnly, Shared: shared, Follows: follows})
		}
	}
	return c.spawn(set, c.logFile(p.Name, spec.Name))
}

// permissions applies a security context.
func (s *setup) permissions(c *corev1.SecurityContext) {
	if c == nil {
		return
	}
	s.Privileged = c.Privileged != nil && *c.Privileged
	s.ReadOnlyRoot = c.ReadOnlyRootFilesystem != nil && *c.ReadOnlyRootFilesystem
	s.NoNewPrivileges = c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation
	if c.Capabilities != nil {
		for _, name := range c.Capabilities.Add {
			s.Capabilities = append(s.Capabilities, string(name))
		}
	}
}

// childVariable makes a copy of this program set up a container.
const childVariable = "ATOLL_PODRUN_CHILD"

// spawn starts a copy of this program in new namespaces, which sets itself up and executes the
// container's command.
func (c *Cluster) spawn(set setup, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = []string{childVariable + "=" + string(text), "PATH=/opt/atoll:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if set.Root == "" {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	}
	if err := spawn.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %v: %w", set.Command, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}
