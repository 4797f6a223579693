package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/report"
)

// patiences are how long clients wait for a brick's answer and for its node's acknowledgement, in
// seconds: see package volfile.
var patiences = [][2]string{{"42", "10"}, {"42", "5"}, {"10", "10"}, {"5", "5"}, {"3", "3"}}

const (
	// pauseLimit is how long a brick is stopped at most.
	pauseLimit = 3 * time.Second
	// healEvery is how often a brick misses writes and is healed.
	healEvery = time.Minute
)

// TestPatience counts how often clients disconnect from bricks that are healthy but slow, side by side
// with different patience: all processors are busy, bricks stop for up to three seconds, and another
// brick of the set is healed.
func TestPatience(t *testing.T) {
	c := bricks.Start(t, schema.Replica3, 3, nil)
	c.Heal()
	var clients []*patient
	for _, p := range patiences {
		clients = append(clients, newPatient(t, c, p))
	}
	if *full { // in make test, other suites keep the processors busy
		busy(t)
	}
	lasts := pick(30*time.Minute, 20*time.Second)
	end := time.Now().Add(lasts)
	for healed := time.Now(); time.Now().Before(end); {
		pause(t, c.Bricks[rand.IntN(2)], rand.N(pauseLimit))
		if time.Since(healed) > pick(healEvery, 10*time.Second) {
			bricks.Stop(c.Bricks[2])
			time.Sleep(rand.N(pauseLimit))
			c.StartBrick(2)
			healed = time.Now()
		}
		time.Sleep(rand.N(pauseLimit))
	}
	table := report.Head(1, "Waits for an answer", "for an acknowledgement", "disconnected", "longest write")
	for _, p := range clients {
		p.writer.Finish(t)
		close(p.stop)
		if err := <-p.stopped; err != nil {
			t.Errorf("%v: %v", p.waits, err)
		}
		table.Row(p.waits[0]+" s", p.waits[1]+" s", fmt.Sprint(p.disconnected(t)),
			fmt.Sprintf("%.1f s", p.writer.Longest().Seconds()))
	}
	t.Log("\n" + table.String())
	if n := clients[0].disconnected(t); n > 0 {
		t.Errorf("the default disconnected %d times from healthy bricks", n)
	}
	writeTable(t, "reliability.md", "patience", table.String())
}

// patient is a mount with a writer of lines, and one of large writes that fills the network's buffers.
type patient struct {
	waits   [2]string
	log     string
	writer  *bricks.Writer
	stop    chan struct{}
	stopped chan error
}

func newPatient(t *testing.T, c *bricks.Cluster, waits [2]string) *patient {
	t.Helper()
	name := "waits-" + strings.Join(waits[:], "-")
	dir := c.Mount(name, func(p volfile.Pool) (*volfile.Xlator, error) {
		x, err := volfile.Client(p)
		if err == nil {
			setPatience(x, waits)
		}
		return x, err
	})
	c.Eventually(name+" is connected", func() bool { return bricks.Connected(dir) == 3 })
	p := &patient{
		waits: waits, log: filepath.Join(filepath.Dir(dir), name+".log"),
		writer: bricks.StartWriter(filepath.Join(dir, name)), stop: make(chan struct{}), stopped: make(chan error, 1),
	}
	go func() { p.stopped <- p.writeMuch(filepath.Join(dir, name+"-much")) }()
	return p
}

// setPatience sets how long the connections of a graph wait.
func setPatience(x *volfile.Xlator, waits [2]string) {
	for i, o := range x.Options {
		switch o.Name {
		case "ping-timeout":
			x.Options[i].Value = waits[0]
		case "transport.tcp-user-timeout":
			x.Options[i].Value = waits[1]
		}
	}
	for _, sub := range x.Subvolumes {
		setPatience(sub, waits)
	}
}

// writeMuch writes the same 64 MiB again and again.
func (p *patient) writeMuch(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for n := int64(0); ; n++ {
		select {
		case <-p.stop:
			return f.Sync()
		case <-time.After(50 * time.Millisecond):
		}
		if _, err := f.WriteAt(block, n%64<<20); err != nil {
			return err
		}
	}
}

// disconnected returns how often the client has lost a connection to the bricks that were only stopped for
// a while.
func (p *patient) disconnected(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.Contains(line, "disconnected from") &&
			(strings.Contains(line, "-client-0:") || strings.Contains(line, "-client-1:")) {
			n++
		}
	}
	return n
}

// pause stops a process for a time.
func pause(t *testing.T, cmd *exec.Cmd, long time.Duration) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(long)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// busy keeps all processors busy until the test ends.
func busy(t *testing.T) {
	t.Helper()
	for range runtime.NumCPU() {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := spawn.Start(cmd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bricks.Stop(cmd) })
	}
}
