package rebalance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/gluster/volfileserver"
)

// volfileID is the name under which the process requests its volfile.
const volfileID = "rebalance"

// stopLimit is how long the process may take to end after SIGTERM: it finishes the file
// that it is moving.
const stopLimit = 30 * time.Second

// move runs the process until it has ended, and returns its final report. Its volfile is
// served to it, although it is a file: only a process that has fetched its volfile from a
// server reports its result.
func (r *Rebalancer) move(ctx context.Context, g gluster.Rebalance, volfile string) (gluster.Progress, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return gluster.Progress{}, fmt.Errorf("serve the volfile of the rebalance: %w", err)
	}
	ended := make(chan gluster.Progress, 1)
	server := volfileserver.New(r.Log)
	server.Set(volfileID, volfile)
	server.Event = func(event uint32, values map[string]string) {
		if event == volfileserver.EventRebalance {
			select {
			case ended <- gluster.ParseProgress(values):
			default: // it reports once
			}
		}
	}
	served, stop := context.WithCancel(ctx)
	serving := make(chan struct{})
	go func() {
		_ = server.Serve(served, l) // it ends by the context
		close(serving)
	}()
	defer func() {
		stop()
		<-serving
	}()
	cmd := exec.CommandContext(ctx, "glusterfs", "-N", "-s", "127.0.0.1",
		"--volfile-server-port="+strconv.Itoa(l.Addr().(*net.TCPAddr).Port), "--volfile-id", volfileID,
		"--process-name", "rebalance", "-l", "/dev/stdout", "-S", r.Socket)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	if err := cmd.Start(); err != nil {
		return gluster.Progress{}, fmt.Errorf("start the rebalance process: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the exit code means nothing: the process ends itself with a signal
		close(exited)
	}()
	r.logProgress(ctx, g, exited)
	select { // its final report may still be on its way
	case p := <-ended:
		r.report("the rebalance has ended", p)
		return p, nil
	case <-time.After(pollEvery):
		return gluster.Progress{}, fmt.Errorf("the rebalance process ended without a result: %s", cmd.ProcessState)
	}
}

// logProgress logs the progress of the process until it has ended.
func (r *Rebalancer) logProgress(ctx context.Context, g gluster.Rebalance, exited <-chan struct{}) {
	tick := time.NewTicker(logEvery)
	defer tick.Stop()
	for {
		select {
		case <-exited:
			return
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, peerLimit)
		p, err := g.Progress(asking, r.Socket)
		cancel()
		if err == nil {
			r.report("rebalancing", p)
		} else if !errors.Is(err, context.Canceled) {
			r.Log.Info("the rebalance does not answer", "error", err.Error())
		}
	}
}

func (r *Rebalancer) report(what string, p gluster.Progress) {
	r.mu.Lock()
	r.last = p
	r.mu.Unlock()
	values := []any{
		"filesLookedAt", p.Scanned, "filesMoved", p.Moved, "bytesMoved", p.Bytes, "failed", p.Failed, "skipped",
		p.Skipped,
		"elapsed", p.Elapsed.String(),
	}
	if p.EstimatedLeft > 0 {
		values = append(values, "left", p.EstimatedLeft.String())
	}
	r.Log.Info(what, values...)
}
