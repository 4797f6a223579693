package block

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// database is a real one on a volume.
type database interface {
	// start opens the database in a folder, which is empty the first time.
	start(t *testing.T, dir string)
	// insert adds a number, and has it on the disk when it returns.
	insert(n int) error
	// check holds the database to its own rules, and gives the numbers that are in it.
	check(t *testing.T) (count, highest int)
	// stop ends it, at once when it is killed.
	stop(kill bool)
}

// session is a client that answers a line with a line.
type session struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func newSession(t *testing.T, name string, args ...string) *session {
	t.Helper()
	s := &session{cmd: exec.Command(name, args...)}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewScanner(out)
	s.cmd.Stderr = s.cmd.Stdout
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn.Start(s.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	return s
}

func (s *session) end() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// ask sends a line and waits for one that begins with a word.
func (s *session) ask(line, word string) (string, error) {
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		return "", err
	}
	for s.out.Scan() {
		if strings.HasPrefix(s.out.Text(), word) {
			return strings.TrimSpace(strings.TrimPrefix(s.out.Text(), word)), nil
		}
		if strings.Contains(s.out.Text(), "rror") || strings.Contains(s.out.Text(), "FATAL") || strings.Contains(s.out.Text(), "PANIC") {
			return "", fmt.Errorf("%q: %s", line, s.out.Text())
		}
	}
	return "", fmt.Errorf("%q: the database has ended", line)
}

// numbers reads "count highest".
func numbers(t *testing.T, text string, err error) (count, highest int) {
	t.Helper()
	if err == nil {
		_, err = fmt.Sscan(text, &count, &highest)
	}
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return count, highest
}

// sqlite is SQLite with a write-ahead log, which it syncs at every commit.
type sqlite struct{ s *session }

func (d *sqlite) start(t *testing.T, dir string) {
	d.s = newSession(t, "sqlite3", filepath.Join(dir, "db"))
	answer, err := d.s.ask(`.mode list
pragma journal_mode=wal; pragma synchronous=full; create table if not exists t(n integer primary key, fill text); select 'ok open';`, "ok ")
	if err != nil || answer != "open" {
		t.Fatalf("opening SQLite: %q, %v", answer, err)
	}
}

func (d *sqlite) insert(n int) error {
	_, err := d.s.ask(fmt.Sprintf("insert into t values(%d, hex(randomblob(500))); select 'ok ' || changes();", n), "ok ")
	return err
}

func (d *sqlite) check(t *testing.T) (count, highest int) {
	t.Helper()
	if answer, err := d.s.ask("select 'ok ' || integrity_check from pragma_integrity_check;", "ok "); err != nil || answer != "ok" {
		t.Errorf("SQLite finds %q, %v", answer, err)
	}
	answer, err := d.s.ask("select 'ok ' || count(*) || ' ' || coalesce(max(n), 0) from t;", "ok ")
	return numbers(t, answer, err)
}

func (d *sqlite) stop(kill bool) {
	if !kill {
		d.s.in.Close()
		_ = d.s.cmd.Wait()
	}
	d.s.end()
}

// postgres is PostgreSQL with page checksums, as its own user.
type postgres struct {
	bin, dir, port string
	server         *exec.Cmd
	s              *session
}

// asUser is what runs a program as the user postgres.
var asUser = []string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}

func (d *postgres) run(t *testing.T, args ...string) string {
	t.Helper()
	args = append(append([]string{}, asUser...), args...)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

func (d *postgres) start(t *testing.T, dir string) {
	t.Helper()
	d.dir = filepath.Join(dir, "pg")
	fresh := false
	if _, err := os.Stat(d.dir); err != nil {
		fresh = true
		must(t, os.Mkdir(d.dir, 0o700))
		must(t, exec.Command("chown", "postgres:postgres", d.dir).Run())
		d.run(t, d.bin+"/initdb", "--data-checksums", "--auth=trust", "-D", d.dir)
	}
	_ = os.Remove(filepath.Join(d.dir, "postmaster.pid")) // of another node
	sockets, err := os.MkdirTemp("", "pg-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	must(t, os.Chmod(sockets, 0o777))
	args := append(append([]string{}, asUser...), d.bin+"/postgres", "-D", d.dir, "-k", sockets, "-c", "listen_addresses=", "-c", "port="+d.port,
		"-c", "checkpoint_timeout=30s", "-c", "max_wal_size=32MB", "-c", "shared_buffers=16MB")
	d.server = exec.Command(args[0], args[1:]...)
	log, err := os.OpenFile(filepath.Join(sockets, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer log.Close()
	d.server.Stdout, d.server.Stderr = log, log
	d.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, spawn.Start(d.server))
	t.Cleanup(func() { d.stop(true) })
	psql := []string{"-X", "-q", "-t", "-A", "-F", " ", "-h", sockets, "-p", d.port, "-U", "postgres"}
	for range 200 {
		if exec.Command("psql", append(psql, "-c", "select 1")...).Run() == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.s = newSession(t, "psql", psql...)
	if fresh {
		if _, err := d.s.ask("create table t(n integer primary key, fill text); select 'ok';", "ok"); err != nil {
			text, _ := os.ReadFile(filepath.Join(sockets, "log"))
			t.Fatalf("opening PostgreSQL: %v\n%s", err, text)
		}
	}
}

func (d *postgres) insert(n int) error {
	_, err := d.s.ask(fmt.Sprintf("insert into t values(%d, repeat(md5(random()::text), 30)) returning 'ok';", n), "ok")
	return err
}

func (d *postgres) check(t *testing.T) (count, highest int) {
	t.Helper()
	answer, err := d.s.ask("select 'ok', count(*), coalesce(max(n), 0) from t;", "ok ")
	count, highest = numbers(t, answer, err)
	// Every row is read, and every page's checksum with it; then by the index.
	answer, err = d.s.ask("set enable_seqscan=off; select 'ok', count(n), max(length(fill)) from t where n > 0;", "ok ")
	if byIndex, length := numbers(t, answer, err); byIndex != count || count > 0 && length != 960 {
		t.Errorf("PostgreSQL has %d rows, and %d by its index, the longest with %d characters", count, byIndex, length)
	}
	return count, highest
}

func (d *postgres) stop(kill bool) {
	if d.s != nil {
		d.s.end()
	}
	if d.server == nil || d.server.ProcessState != nil {
		return
	}
	signal := syscall.SIGINT // a fast shutdown
	if kill {
		signal = syscall.SIGQUIT // an immediate one: as if the power went
	}
	_ = d.server.Process.Signal(signal)
	ended := make(chan struct{})
	go func() { _ = d.server.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = d.server.Process.Kill()
	}
}

// TestDatabases runs real databases on volumes: through bricks that are killed and come back
// one after another, through a killed plugin, and over to another node when theirs is cut
// off. All that was committed is there, and their own checks find nothing.
func TestDatabases(t *testing.T) {
	bin, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if _, err := exec.LookPath("sqlite3"); err != nil || len(bin) == 0 {
		t.Skip("PostgreSQL or SQLite is not installed: run make deps")
	}
	for _, one := range []struct {
		name, fileSystem string
		db               database
	}{
		{"PostgreSQL", "xfs", &postgres{bin: bin[len(bin)-1], port: strconv.Itoa(20000 + os.Getpid()%10000)}},
		{"SQLite", "ext4", &sqlite{}},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel() // mostly, they wait for bricks to be healed
			testDatabase(t, one.fileSystem, one.db)
		})
	}
}

func testDatabase(t *testing.T, fileSystem string, db database) {
	c := start(t, "a", "b")
	a, b := c.nodes[0], c.nodes[1]
	for _, n := range c.nodes {
		must(t, os.Chmod(n.h.Path("."), 0o755))
		must(t, os.MkdirAll(n.h.Path("kubelet/pods"), 0o755))
	}
	id := c.create("pvc-1", fileSystem, copySize) // a brick that was away compares all of it
	must(t, a.take(t.Context(), id, fileSystem))
	must(t, unix.Chmod(a.h.Path("kubelet/pods"), 0o755))
	db.start(t, a.target(id))
	acked, longest := 0, time.Duration(0)
	work := func(d time.Duration) {
		t.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); {
			begin := time.Now()
			if err := db.insert(acked + 1); err != nil {
				t.Fatalf("after %d rows: %v", acked, err)
			}
			acked, longest = acked+1, max(longest, time.Since(begin))
		}
	}
	work(2 * time.Second)
	for i := range 3 {
		bricks.Stop(c.bricks.Bricks[i])
		work(2 * time.Second)
		c.bricks.StartBrick(i)
		work(4 * time.Second)
		for end := time.Now().Add(5 * time.Minute); c.lacking(i) > 0; {
			if time.Now().After(end) {
				t.Fatal("the brick is not healed")
			}
			work(time.Second)
		}
	}
	bricks.Stop(a.plugin)
	work(time.Second)
	a.startPlugin()
	t.Logf("%d rows through three brick restarts and a killed plugin, the longest took %s", acked, longest.Round(time.Millisecond))
	if count, highest := db.check(t); count != acked || highest != acked {
		t.Errorf("there are %d rows up to %d, committed were %d", count, highest, acked)
	}
	// The node falls silent with a transaction under way.
	failed := make(chan error, 1)
	go func() {
		for {
			if err := db.insert(acked + 1); err != nil {
				failed <- err
				return
			}
			acked++
		}
	}()
	time.Sleep(time.Second)
	a.connect(false)
	took := b.takeWithin(takeoverLimit+takeoverGrace, id, fileSystem)
	a.connect(true)
	select {
	case err := <-failed:
		t.Logf("taken over after %s; the first node's database ended with: %v", took.Round(100*time.Millisecond), err)
	case <-time.After(time.Minute):
		t.Error("the first node's database does not notice")
	}
	db.stop(true)
	must(t, unix.Chmod(b.h.Path("kubelet/pods"), 0o755))
	db.start(t, b.target(id))
	count, highest := db.check(t)
	if count < acked || count > acked+1 || highest != count {
		t.Errorf("after the takeover there are %d rows up to %d, committed were %d", count, highest, acked)
	}
	acked = count
	work(2 * time.Second)
	db.check(t)
	db.stop(false)
	must(t, b.give(id))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	must(t, a.give(id))
	must(t, a.take(ctx, id, fileSystem)) // and back
	must(t, a.give(id))
}
