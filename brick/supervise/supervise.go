// Package supervise runs a daemon of a brick pod and starts it again when it crashes. The kubelet
// would too, but it waits longer after every crash, up to five minutes
// (kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle, "CrashLoopBackOff"): a pool whose bricks
// crashed four times in a minute would be away for long after the cause has gone.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
)

// Daemon is a program that runs until it gets SIGTERM.
type Daemon struct {
	// Name names it in the record and in the log.
	Name    string
	Command []string
	// Records is the directory with the records of all daemons of the pod. It must outlive the
	// container.
	Records string
	Log     logr.Logger
	// Limits are DefaultLimits, but for tests.
	Limits Limits
}

// Limits are how often a daemon that crashes is started again.
type Limits struct {
	// First is the pause after the first crash. It doubles with each further one, up to Longest.
	First, Longest time.Duration
	// Lasting is for how long a daemon must run before its next crash counts as a first one.
	Lasting time.Duration
	// Attempts is how many times in a row a daemon may crash within Lasting of its start.
	Attempts int
}

// DefaultLimits start a daemon within 6 s of each crash, as a client of GlusterFS needs up to 3 s more
// to connect to it again, and give up after three to ten minutes of nothing but crashes.
var DefaultLimits = Limits{First: time.Second, Longest: 6 * time.Second, Lasting: 15 * time.Second, Attempts: 30}

// ErrGaveUp means that a daemon crashed as often as Limits.Attempts. The kubelet, which starts the
// container again later and later, is the better one to handle that.
var ErrGaveUp = errors.New("it does not stay up")

// passedOn are the signals that a daemon gets from its supervisor: GlusterFS opens its logs again, and
// writes a state dump.
var passedOn = []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}

// Run runs the daemon until ctx ends, which ends the daemon with SIGTERM and returns nil. A daemon that
// a signal ended has crashed, and is started again. One that exits by itself has a reason which starting
// it again would not change, such as a volfile server that refuses it: that is an error.
func (d *Daemon) Run(ctx context.Context) error {
	record, err := d.open()
	if err != nil {
		d.Log.Error(err, "reading the record of crashes; counting from 0") // never a reason not to serve
	}
	d.save(record)
	pause, crashes := d.Limits.First, 0
	for {
		started := time.Now()
		end, err := d.runOnce(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		status, _ := end.Sys().(syscall.WaitStatus)
		if !status.Signaled() {
			return fmt.Errorf("%s ended by itself (exit status %d); its log shows why", d.Name, status.ExitStatus())
		}
		if time.Since(started) >= d.Limits.Lasting {
			pause, crashes = d.Limits.First, 0
		}
		crashes++
		record.Crashes++
		record.Last, record.Reason = time.Now().UTC(), status.Signal().String()
		d.save(record)
		if crashes >= d.Limits.Attempts {
			return fmt.Errorf("%s crashed %d times in a row (%s): %w", d.Name, crashes, record.Reason, ErrGaveUp)
		}
		d.Log.Info("daemon crashed; starting it again", "daemon", d.Name, "signal", record.Reason,
			"ran", time.Since(started).Round(time.Second).String(), "crashes", record.Crashes, "in", pause.String())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, d.Limits.Longest)
	}
}

// runOnce runs the daemon until it ends. When ctx ends, it gets SIGTERM and all the time that it needs:
// who ended the supervisor has a grace period of its own.
func (d *Daemon) runOnce(ctx context.Context) (*os.ProcessState, error) {
	cmd := exec.Command(d.Command[0], d.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.Name, err)
	}
	signals := make(chan os.Signal, len(passedOn))
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := ctx.Done()
	for {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return nil, fmt.Errorf("wait for %s: %w", d.Name, err)
			}
			return cmd.ProcessState, nil
		case s := <-signals:
			_ = cmd.Process.Signal(s) // fails if it has just ended
		case <-stop:
			_ = cmd.Process.Signal(syscall.SIGTERM)
			stop = nil
		}
	}
}
