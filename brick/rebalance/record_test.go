package rebalance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	brickagent "github.com/atoll-storage/atoll/brick/agent"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// limit is how long a condition may take to hold on a busy machine.
const limit = time.Minute

// bed is a pool of two sets of one brick each: real agents on directories, without glusterfsd.
type bed struct {
	t       *testing.T
	port    int
	dirs    []string // of the bricks
	agents  []*httptest.Server
	keys    agent.Keys
	volfile string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{
		t: t, keys: agent.Keys{bytes.Repeat([]byte("k"), 32)},
		volfile: filepath.Join(t.TempDir(), "rebalance.vol"),
	}
	for i := range 2 {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, ondisk.GlusterDir), 0o700); err != nil {
			t.Fatal(err)
		}
		b.dirs = append(b.dirs, dir)
		if err := unix.Setxattr(dir, "trusted.test", []byte("1"), 0); err != nil {
			t.Skipf("no trusted xattrs on %s: %v; run as root", dir, err)
		}
		a, err := brickagent.New(brickagent.Brick{
			Namespace: "n", Pool: "p", Position: strconv.Itoa(i), Directory: dir, Parts: 1, Port: 1, Advisory: true,
		}, logr.Discard())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		s := &brickagent.Server{Agent: a, Keys: func() (agent.Keys, error) { return b.keys, nil }}
		h := httptest.NewUnstartedServer(s.Handler())
		h.Listener.Close()
		if h.Listener, err = net.Listen("tcp", net.JoinHostPort(host(i), strconv.Itoa(b.port))); err != nil {
			t.Fatal(err)
		}
		b.port = h.Listener.Addr().(*net.TCPAddr).Port // the same for all
		h.Start()
		t.Cleanup(h.Close)
		b.agents = append(b.agents, h)
	}
	return b
}

func host(i int) string { return fmt.Sprintf("127.0.0.%d", i+2) }

// setVolfile replaces the volfile as a kubelet does.
func (b *bed) setVolfile(layout string) {
	b.t.Helper()
	var s strings.Builder
	for i := range b.dirs {
		fmt.Fprintf(&s, "volume p-client-%d\n type protocol/client\n option remote-host %s\n option remote-port 1\n"+
			"end-volume\n", i, host(i))
	}
	fmt.Fprintf(&s, "volume p-dht\n type cluster/distribute\n option commit-hash %s\n"+
		" subvolumes p-client-0 p-client-1\nend-volume\n", layout)
	if err := os.WriteFile(b.volfile+".new", []byte(s.String()), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(b.volfile+".new", b.volfile); err != nil {
		b.t.Fatal(err)
	}
}

// set sets what the bricks have recorded, "" for nothing.
func (b *bed) set(layouts ...string) {
	b.t.Helper()
	for i, layout := range layouts {
		path := filepath.Join(b.dirs[i], ondisk.GlusterDir)
		if err := unix.Removexattr(path, ondisk.LayoutAttribute); err != nil && !errors.Is(err, unix.ENODATA) {
			b.t.Fatal(err)
		}
		if layout == "" {
			continue
		}
		if err := unix.Setxattr(path, ondisk.LayoutAttribute, []byte(layout), 0); err != nil {
			b.t.Fatal(err)
		}
	}
}

// recorded is what the bricks have recorded.
func (b *bed) recorded() string {
	var all []string
	for _, dir := range b.dirs {
		value := make([]byte, 64)
		n, _ := unix.Getxattr(filepath.Join(dir, ondisk.GlusterDir), ondisk.LayoutAttribute, value)
		all = append(all, string(value[:max(0, n)]))
	}
	return strings.Join(all, " ")
}

// start starts a process for a layout, and returns it and the function that ends it.
func (b *bed) start(layout string) (*Rebalancer, func()) {
	r := &Rebalancer{
		Namespace: "n", Pool: "p", Volfile: b.volfile, Layout: layout, AgentPort: b.port,
		Keys: func() (agent.Keys, error) { return b.keys, nil }, Log: logr.Discard(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = r.Run(ctx) // it ends by the context
		close(ended)
	}()
	stop := func() {
		cancel()
		<-ended
	}
	b.t.Cleanup(stop)
	return r, stop
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > limit {
			t.Fatalf("%s: not after %s", what, limit)
		}
	}
}

// waits waits until a process waits for bricks, of which none runs here: it has decided that
// files must be moved.
func waits(t *testing.T, r *Rebalancer) {
	t.Helper()
	eventually(t, "the process decides", func() bool {
		err := r.Settled()
		return err == nil || strings.Contains(err.Error(), "waiting until all bricks")
	})
	if err := r.Settled(); err == nil {
		t.Fatal("settled in a layout that files have left")
	}
}

// TestCancelledMove returns to a former layout after the process has begun with another one. The
// former layout is not believed to be reached, by the same process and by a new one.
func TestCancelledMove(t *testing.T) {
	t.Parallel()
	for _, pinned := range []bool{true, false} {
		b := newBed(t)
		layout := func(l string) string {
			if pinned {
				return l
			}
			return ""
		}
		b.set("1", "1")
		b.setVolfile("1")
		r, stop := b.start(layout("1"))
		eventually(t, "settled as the bricks have recorded", func() bool { return r.Settled() == nil })
		if pinned {
			stop()
			r, stop = b.start(layout("2")) // before the kubelet has updated its volfile
			eventually(t, "the volfile is outdated", func() bool {
				err := r.Settled()
				return err != nil && strings.Contains(err.Error(), "another layout than this pod")
			})
			if got := b.recorded(); got != "1 1" {
				t.Errorf("recorded before the volfile was updated: %s", got)
			}
		}
		b.setVolfile("2")
		waits(t, r)
		eventually(t, "no brick claims the former layout",
			func() bool { return b.recorded() == moving+" "+moving })
		if pinned {
			stop()
			r, stop = b.start(layout("1"))
		}
		b.setVolfile("1")
		waits(t, r)
		stop()
		r, _ = b.start(layout("1"))
		waits(t, r)
	}
}

// TestOutdatedVolfile: a process for a layout is not ready while its volfile has a former one, which
// is reached.
func TestOutdatedVolfile(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.set("1", "1")
	b.setVolfile("1")
	r, _ := b.start("2")
	h := httptest.NewServer(r.Handler())
	t.Cleanup(h.Close)
	ready := func() bool {
		answer, err := h.Client().Get(h.URL + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode == 200
	}
	for begin := time.Now(); time.Since(begin) < 2*pollEvery; time.Sleep(50 * time.Millisecond) {
		if ready() {
			t.Fatal("ready for a former layout")
		}
	}
	b.set("2", "2")
	b.setVolfile("2")
	eventually(t, "ready when the volfile is updated", ready)
	// The document changes, and changes back before the pod is replaced.
	b.setVolfile("1")
	eventually(t, "not ready for the other layout",
		func() bool { return !ready() && b.recorded() == moving+" "+moving })
	b.setVolfile("2")
	waits(t, r)
}

// TestRecordMoving: files are moved only when no brick has a layout recorded, and none can have.
func TestRecordMoving(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setVolfile("2")
	r := &Rebalancer{
		Namespace: "n", Pool: "p", Volfile: b.volfile, AgentPort: b.port,
		Keys: func() (agent.Keys, error) { return b.keys, nil }, Log: logr.Discard(),
	}
	g, _, err := r.graph()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	keys := b.keys
	for name, test := range map[string]struct {
		before []string
		keys   agent.Keys
		after  string // "" if it is refused
	}{
		"layout":                         {[]string{"1", "1"}, keys, "moving moving"},
		"one brick replaced":             {[]string{"1", ""}, keys, "moving moving"},
		"interrupted":                    {[]string{"1", moving}, keys, "moving moving"},
		"without keys":                   {[]string{"", ""}, nil, " "},
		"without keys, interrupted":      {[]string{moving, ""}, nil, "moving "},
		"without keys any more":          {[]string{"1", ""}, nil, ""},
		"without keys any more, the end": {[]string{"", "2"}, nil, ""},
	} {
		b.set(test.before...)
		b.keys = test.keys
		err := r.recordMoving(ctx, g)
		if (err == nil) != (test.after != "") || err == nil && b.recorded() != test.after {
			t.Errorf("%s: %v, recorded %q", name, err, b.recorded())
		}
	}
	b.agents[1].Close()
	b.keys = keys
	if err := r.recordMoving(ctx, g); err == nil {
		t.Error("moves files although a brick could not be told")
	}
	b.keys = nil
	b.set("", "")
	if err := r.recordMoving(ctx, g); err == nil {
		t.Error("moves files although nobody knows what a brick has recorded")
	}
}

// TestBricksHaveLayout: the layout is reached if the first set says so and no brick denies it.
func TestBricksHaveLayout(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setVolfile("2")
	r := &Rebalancer{Volfile: b.volfile, AgentPort: b.port, Log: logr.Discard()}
	g, _, err := r.graph()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		recorded []string
		reached  bool
	}{
		"all":                           {[]string{"2", "2"}, true},
		"one brick replaced":            {[]string{"2", ""}, true},
		"nothing":                       {[]string{"", ""}, false},
		"another":                       {[]string{"1", "1"}, false},
		"one with another":              {[]string{"2", "1"}, false},
		"interrupted":                   {[]string{moving, moving}, false},
		"the record was interrupted":    {[]string{"2", moving}, false},
		"a set that was removed":        {[]string{"", "2"}, false},
		"a set that was away meanwhile": {[]string{moving, "2"}, false},
	} {
		b.set(test.recorded...)
		if got := r.bricksHaveLayout(context.Background(), g); got != test.reached {
			t.Errorf("%s: %v", name, got)
		}
	}
	b.set("2", "2")
	b.agents[1].Close()
	if !r.bricksHaveLayout(context.Background(), g) {
		t.Error("a brick that is offline counts")
	}
	b.agents[0].Close()
	if r.bricksHaveLayout(context.Background(), g) {
		t.Error("reached, but no brick says so")
	}
}
