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

// volfileID is the name by which the process asks for its volfile.
const volfileID = "rebalance"

// stopLimit is how long the process may take to end when it is asked to: it finishes
// the file that it moves.
const stopLimit = 30 * time.Second

// move runs the process until it has ended, and gives the last that it told. Its volfile
// is served to it, though it is a file: only a process that has fetched its volfile tells
// how it ended.
func (r *Rebalancer) move(ctx context.Context, g gluster.Rebalance, volfile string) (gluster.Progress, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return gluster.Progress{}, fmt.Errorf("serving the volfile of the rebalance: %w", err)
	}
	ended := make(chan gluster.Progress, 1)
	server := volfileserver.New(r.Log)
	server.Set(volfileID, volfile)
	server.Event = func(event uint32, values map[string]string) {
		if event == volfileserver.EventRebalance {
			select {
			case ended <- gluster.ParseProgress(values):
			default: // it tells once
			}
		}
	}
	served, stop := context.WithCancel(ctx)
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(served, l) }()
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
		return gluster.Progress{}, fmt.Errorf("starting the rebalance: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	r.follow(ctx, g, exited)
	select { // what it told last may still be on its way
	case p := <-ended:
		r.report("the rebalance has ended", p)
		return p, nil
	case <-time.After(look):
		return gluster.Progress{}, fmt.Errorf("the rebalance has ended before it was done: %s", cmd.ProcessState)
	}
}

// follow tells how far the process is until it has ended.
func (r *Rebalancer) follow(ctx context.Context, g gluster.Rebalance, exited <-chan error) {
	tick := time.NewTicker(tell)
	defer tick.Stop()
	for {
		select {
		case <-exited: // its code says nothing: it ends itself with a signal
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
		"filesLookedAt", p.Looked, "filesMoved", p.Moved, "bytesMoved", p.Bytes, "failed", p.Failed, "skipped", p.Skipped,
		"elapsed", p.Elapsed.String(),
	}
	if p.EstimatedLeft > 0 {
		values = append(values, "left", p.EstimatedLeft.String())
	}
	r.Log.Info(what, values...)
}
