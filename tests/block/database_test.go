package block

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// database is a database on a volume.
type database interface {
	// start starts the database in a directory, which is empty the first time.
	start(t *testing.T, dir string)
	// insert commits a number.
	insert(n int) error
	// check runs the database's integrity checks, and returns the numbers in it.
	check(t *testing.T) (count, highest int)
	// stop shuts the database down, or kills it.
	stop(kill bool)
}

// session is a client that answers lines with lines.
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

// ask sends a line and waits for an answer that begins with a word.
func (s *session) ask(line, word string) (string, error) {
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		return "", err
	}
	for s.out.Scan() {
		if strings.HasPrefix(s.out.Text(), word) {
			return strings.TrimSpace(strings.TrimPrefix(s.out.Text(), word)), nil
		}
		if strings.Contains(s.out.Text(), "rror") || strings.Contains(s.out.Text(), "FATAL") ||
			strings.Contains(s.out.Text(), "PANIC") {
			return "", fmt.Errorf("%q: %s", line, s.out.Text())
		}
	}
	return "", fmt.Errorf("%q: the client has ended", line)
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

// sqlite is SQLite with a write-ahead log that is synced at every commit.
type sqlite struct{ s *session }

func (d *sqlite) start(t *testing.T, dir string) {
	d.s = newSession(t, "sqlite3", filepath.Join(dir, "db"))
	answer, err := d.s.ask(`.mode list
pragma journal_mode=wal; pragma synchronous=full;
create table if not exists t(n integer primary key, fill text); select 'ok open';`, "ok ")
	if err != nil || answer != "open" {
		t.Fatalf("open SQLite: %q, %v", answer, err)
	}
}

func (d *sqlite) insert(n int) error {
	_, err := d.s.ask(fmt.Sprintf("insert into t values(%d, hex(randomblob(500))); select 'ok ' || changes();", n),
		"ok ")
	return err
}

func (d *sqlite) check(t *testing.T) (count, highest int) {
	t.Helper()
	if answer, err := d.s.ask("select 'ok ' || integrity_check from pragma_integrity_check;", "ok "); err != nil ||
		answer != "ok" {
		t.Errorf("SQLite's integrity check: %q, %v", answer, err)
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

// postgres is PostgreSQL with page checksums, run by its own user.
type postgres struct {
	bin, dir, port string
	server         *exec.Cmd
	s              *session
}

// asUser runs a program as the user postgres.
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
	_ = os.Remove(filepath.Join(d.dir, "postmaster.pid")) // the database ran on another node
	sockets, err := os.MkdirTemp("", "pg-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	must(t, os.Chmod(sockets, 0o777))
	args := append(append([]string{}, asUser...), d.bin+"/postgres", "-D", d.dir, "-k", sockets, "-c",
		"listen_addresses=", "-c", "port="+d.port,
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
	await.True(t, "PostgreSQL answers", func() bool {
		return exec.Command("psql", append(psql[:len(psql):len(psql)], "-c", "select 1")...).Run() == nil
	}, func() string {
		text, _ := os.ReadFile(filepath.Join(sockets, "log"))
		return string(text)
	})
	d.s = newSession(t, "psql", psql...)
	if fresh {
		if _, err := d.s.ask("create table t(n integer primary key, fill text); select 'ok';", "ok"); err != nil {
			text, _ := os.ReadFile(filepath.Join(sockets, "log"))
			t.Fatalf("open PostgreSQL: %v\n%s", err, text)
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
	// The first query checks the checksum of every page, the second one reads by the index.
	answer, err = d.s.ask("set enable_seqscan=off; select 'ok', count(n), max(length(fill)) from t where n > 0;", "ok ")
	if byIndex, length := numbers(t, answer, err); byIndex != count || count > 0 && length != 960 {
		t.Errorf("PostgreSQL has %d rows, %d in the index, the longest with %d characters", count, byIndex, length)
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
		signal = syscall.SIGQUIT // an immediate one, as in a power failure
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

// TestDatabases runs databases on volumes while bricks are restarted, the node plugin is
// killed, and the node is disconnected and another one takes over. All that was committed is
// there, and the databases' own checks find nothing.
func TestDatabases(t *testing.T) {
	t.Parallel()
	bin, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if _, err := exec.LookPath("sqlite3"); err != nil || len(bin) == 0 {
		t.Skip("PostgreSQL or SQLite is not installed: run make deps")
	}
	port := strconv.Itoa(20000 + os.Getpid()%10000)
	for _, test := range []databaseTest{
		{"PostgreSQL", "xfs", copySize, 1, &postgres{bin: bin[len(bin)-1], port: port}},
		{"SQLite", "ext4", size / 8, 3, &sqlite{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}

// databaseTest is a database on a volume. A heal compares the whole volume, so one that is as large as
// XFS needs survives fewer restarts.
type databaseTest struct {
	name, fileSystem string
	size             int64 // bytes
	restarts         int   // of bricks
	db               database
}

// inserter inserts rows into a database, and counts those that were committed.
type inserter struct {
	db      database
	acked   atomic.Int64
	longest time.Duration
}

// insert inserts some more rows.
func (i *inserter) insert(t *testing.T, rows int) {
	t.Helper()
	for range rows {
		begin := time.Now()
		if err := i.db.insert(int(i.acked.Load()) + 1); err != nil {
			t.Fatalf("after %d rows: %v", i.acked.Load(), err)
		}
		i.acked.Add(1)
		i.longest = max(i.longest, time.Since(begin))
	}
}

// untilError inserts rows until one fails, and sends its error.
func (i *inserter) untilError() <-chan error {
	failed := make(chan error, 1)
	go func() {
		for {
			if err := i.db.insert(int(i.acked.Load()) + 1); err != nil {
				failed <- err
				return
			}
			i.acked.Add(1)
		}
	}()
	return failed
}

func (d databaseTest) run(t *testing.T) {
	c := start(t, "a", "b")
	a, b := c.nodes[0], c.nodes[1]
	for _, n := range c.nodes { // the database has a user of its own
		must(t, os.Chmod(n.h.Path("."), 0o755))
		must(t, os.MkdirAll(n.h.Path("kubelet/pods"), 0o755))
	}
	id := c.create("pvc-1", d.fileSystem, d.size)
	must(t, a.publish(id, d.fileSystem))
	must(t, unix.Chmod(a.h.Path("kubelet/pods"), 0o755))
	d.db.start(t, a.target(id))
	work := &inserter{db: d.db}
	work.insert(t, 200)
	for i := range d.restarts {
		bricks.Stop(c.bricks.Bricks[i])
		work.insert(t, 100)
		c.bricks.StartBrick(i)
		c.locked(i, a)
		c.bricks.Eventually(fmt.Sprintf("brick %d is healed", i), func() bool {
			work.insert(t, 10)
			return c.pending(i) == 0
		})
	}
	bricks.Stop(a.plugin)
	work.insert(t, 100)
	a.startPlugin()
	acked := int(work.acked.Load())
	t.Logf("%d rows through %d restarts of bricks and a killed plugin, the longest took %s", acked, d.restarts,
		work.longest.Round(time.Millisecond))
	if count, highest := d.db.check(t); count != acked || highest != acked {
		t.Errorf("there are %d rows up to %d, committed were %d", count, highest, acked)
	}
	takenOver(t, a, b, id, d.fileSystem, work)
	must(t, b.unpublish(id))
	must(t, a.unpublish(id))
	must(t, a.publish(id, d.fileSystem)) // node a can have the volume again
	must(t, a.unpublish(id))
}

// takenOver disconnects node a during a transaction. Node b then has all that was committed.
func takenOver(t *testing.T, a, b *node, id, fileSystem string, work *inserter) {
	t.Helper()
	from := work.acked.Load()
	failed := work.untilError()
	await.True(t, "rows are inserted", func() bool { return work.acked.Load() > from+50 })
	a.connect(false)
	took := b.takeOver(id, fileSystem)
	a.connect(true)
	select {
	case err := <-failed:
		t.Logf("taken over after %s; the database on the first node ended with: %v", took.Round(100*time.Millisecond),
			err)
	case <-time.After(await.Limit):
		t.Fatal("the database on the first node does not notice")
	}
	work.db.stop(true)
	must(t, unix.Chmod(b.h.Path("kubelet/pods"), 0o755))
	work.db.start(t, b.target(id))
	count, highest := work.db.check(t)
	acked := int(work.acked.Load())
	if count < acked || count > acked+1 || highest != count {
		t.Errorf("after the takeover there are %d rows up to %d, committed were %d", count, highest, acked)
	}
	work.acked.Store(int64(count))
	work.insert(t, 100)
	work.db.check(t)
	work.db.stop(false)
}
