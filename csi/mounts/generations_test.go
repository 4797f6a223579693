package mounts

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/blockdev"
)

// node is a node with mount servers.
type node struct {
	*testing.T
	dir string
	*Generations
}

func newNode(t *testing.T) *node {
	dir := t.TempDir()
	n := &node{t, dir, NewGenerations(filepath.Join(dir, "mounter.sock"), filepath.Join(dir, "mounters"))}
	t.Cleanup(n.Close)
	return n
}

func (n *node) generation(name string) *Generation {
	return &Generation{
		Name: name, Sockets: filepath.Join(n.dir, "mounters"), Current: filepath.Join(n.dir, "mounter.sock"),
		Mounts: filepath.Join(n.dir, "mounts"), Log: logr.Discard(),
	}
}

// serve starts a mount server that has a client and a block volume, both named as it, and waits until it
// is the newest. drain is SIGTERM, end its end.
func (n *node) serve(name string, fails error) (drain, end func()) {
	n.Helper()
	g := n.generation(name)
	if err := g.Prepare(n.Context(), func(string) error { return nil }); err != nil {
		n.Fatal(err)
	}
	mux := http.NewServeMux()
	handle(mux, pathClients, func(context.Context, empty) (clientsResponse, error) {
		return clientsResponse{Devices: []string{"client of " + name}}, fails
	})
	handle(mux, pathLost, func(context.Context, blockRequest) (blockdev.Losses, error) {
		return blockdev.Losses{Attached: []blockdev.Attached{{Pool: "p", Name: name, Device: "/dev/" + name}}}, fails
	})
	handle(mux, pathAttach, func(_ context.Context, r blockRequest) (deviceResponse, error) {
		return deviceResponse{blockdev.Device{Path: r.Name + " by " + name}}, fails
	})
	ctx, cancel := context.WithCancel(n.Context())
	ended := make(chan error)
	go func() { ended <- serve(ctx, mux, g.Socket()) }()
	leading, stop := context.WithCancel(ctx)
	led := make(chan error)
	go func() { led <- g.Lead(leading) }()
	n.waitNewest(name)
	drain = sync.OnceFunc(func() {
		stop()
		if err := <-led; err != nil {
			n.Error(err)
		}
	})
	end = func() {
		drain()
		cancel()
		if err := <-ended; err != nil {
			n.Error(err)
		}
	}
	return drain, end
}

func (n *node) waitNewest(name string) {
	n.Helper()
	for range 3000 {
		if n.newestSocket() == n.generation(name).Socket() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.Fatalf("%s did not become the newest", name)
}

func (n *node) devices() []string {
	n.Helper()
	all, err := n.Devices(limited(n.T, 10*time.Second))
	if err != nil {
		n.Fatal(err)
	}
	return slices.Sorted(maps.Keys(all))
}

func (n *node) attach(volume string) string {
	n.Helper()
	d, err := n.Attach(limited(n.T, 10*time.Second), "p", volume)
	if err != nil {
		n.Fatal(err)
	}
	return d.Path
}

// TestGenerations: what exists is asked of the server that has it, everything else of the newest. A
// server that has ended has nothing; one that cannot say what it has keeps others from being told.
func TestGenerations(t *testing.T) {
	n := newNode(t)
	_, endOne := n.serve("one", nil)
	if got := n.devices(); !slices.Equal(got, []string{"client of one"}) || n.attach("new") != "new by one" {
		t.Errorf("with one server: %v", got)
	}
	_, endTwo := n.serve("two", nil)
	if got := n.devices(); !slices.Equal(got, []string{"client of one", "client of two"}) {
		t.Errorf("with two servers: %v", got)
	}
	for volume, want := range map[string]string{"one": "one by one", "two": "two by two", "new": "new by two"} {
		if got := n.attach(volume); got != want {
			t.Errorf("volume %s is attached as %q, not %q", volume, got, want)
		}
	}
	if all, err := n.Lost(limited(t, 10*time.Second)); err != nil || len(all.Attached) != 2 {
		t.Errorf("attached %+v, %v", all, err)
	}
	endOne()
	if got := n.devices(); !slices.Equal(got, []string{"client of two"}) || n.attach("one") != "one by two" {
		t.Errorf("after the first has ended: %v", got)
	}
	_, endThree := n.serve("three", nil)
	if _, err := os.Lstat(n.generation("one").Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket of the server that has ended: %v", err)
	}
	endThree()
	endTwo()
	if _, err := n.Devices(limited(t, 300*time.Millisecond)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("without a server: %v", err)
	}
	_, endFour := n.serve("four", errors.New("it does not know"))
	_, endFive := n.serve("five", nil)
	if _, err := n.Devices(limited(t, 10*time.Second)); err == nil {
		t.Error("devices are complete, although a server does not know its own")
	}
	if _, err := n.Attach(limited(t, 10*time.Second), "p", "new"); err == nil {
		t.Error("a volume is attached that another server may have")
	}
	endFour()
	endFive()
}

// TestAlwaysANewest: when the newest server ends or is told to, another one takes over new mounts; one
// that is told to end while it is the only one goes on.
func TestAlwaysANewest(t *testing.T) {
	n := newNode(t)
	becomes := func(name string) {
		t.Helper()
		n.waitNewest(name)
		if got := n.attach("new"); got != "new by "+name {
			t.Errorf("a new volume is attached as %q", got)
		}
	}
	_, endOne := n.serve("one", nil)
	drainTwo, endTwo := n.serve("two", nil)
	drainTwo()
	becomes("one")
	_, endThree := n.serve("three", nil)
	endThree()
	endTwo()
	becomes("one")
	if err := errors.Join(os.Remove(n.current), os.Symlink("mounters/killed.sock", n.current)); err != nil {
		t.Fatal(err)
	}
	becomes("one")
	drainFour, endFour := n.serve("four", nil)
	drainFive, endFive := n.serve("five", nil)
	endOne()
	drainFour()
	drainFive() // only four is left, which is to end too
	becomes("five")
	endFour()
	endFive()
}

// TestServerWithoutGenerations: a mounter of a version before has a socket where the link is now.
func TestServerWithoutGenerations(t *testing.T) {
	n := newNode(t)
	mux := http.NewServeMux()
	handle(mux, pathClients, func(context.Context, empty) (clientsResponse, error) {
		return clientsResponse{Devices: []string{"client"}}, nil
	})
	go func() {
		if err := serve(t.Context(), mux, n.current); err != nil {
			t.Error(err)
		}
	}()
	if got := n.devices(); !slices.Equal(got, []string{"client"}) {
		t.Errorf("devices %v", got)
	}
}

// TestLeftoversAreRemoved: of a server that has ended, its mounts and its own files go, and nothing else:
// least of all what is mounted there.
func TestLeftoversAreRemoved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts: needs root")
	}
	n := newNode(t)
	gone, users := n.generation("gone"), t.TempDir()
	root := filepath.Join(gone.Dir(), "pool-1/root")
	for _, dir := range []string{root, gone.Sockets} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{
		filepath.Join(users, "file"), filepath.Join(gone.Dir(), "pool-1.log"),
		filepath.Join(gone.Dir(), "pool-1.log.1"), root + ".hosts",
	} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(users, root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	var ended []string
	err := n.generation("new").Prepare(t.Context(), func(dir string) error {
		ended = append(ended, dir)
		return nil
	})
	if err != nil || !slices.Equal(ended, []string{gone.Dir()}) {
		t.Errorf("ended %v, %v", ended, err)
	}
	if _, err := os.Lstat(gone.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(users, "file")); err != nil {
		t.Errorf("what was mounted there: %v", err)
	}
}
