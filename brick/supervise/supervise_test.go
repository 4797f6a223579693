package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
)

// quick are limits under which a daemon is started again at once.
var quick = Limits{First: time.Millisecond, Longest: time.Millisecond, Lasting: time.Hour, Attempts: 5}

// start supervises a shell script, which adds its process ID to the file pids.
func start(t *testing.T, script string, limits Limits) (d *Daemon, pids string, stop func(), ended chan error) {
	t.Helper()
	dir := t.TempDir()
	pids = filepath.Join(dir, "pids")
	d = &Daemon{
		Name: "daemon", Command: []string{"sh", "-c", "echo $$ >>" + pids + "; " + script}, Records: dir,
		Log: testr.New(t), Limits: limits,
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() {
		ended <- d.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		for range ended { // until it is closed
		}
	})
	return d, pids, cancel, ended
}

// nth waits for the process ID of the daemon's n-th run.
func nth(t *testing.T, pids string, n int) int {
	t.Helper()
	for range 3000 {
		text, _ := os.ReadFile(pids)
		if lines := strings.Fields(string(text)); len(lines) >= n {
			pid, err := strconv.Atoi(lines[n-1])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the daemon was not started %d times", n)
	return 0
}

func kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// A daemon that is killed is started again, each crash is recorded, and a supervisor that replaces
// this one goes on counting.
func TestCrashesAreRecorded(t *testing.T) {
	d, pids, stop, ended := start(t, "exec sleep 1000", quick)
	for n := 1; n <= 3; n++ {
		kill(t, nth(t, pids, n), syscall.SIGSEGV)
	}
	nth(t, pids, 4)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	all, err := Records(d.Records)
	if err != nil || len(all) != 1 {
		t.Fatalf("records %v, %v", all, err)
	}
	if r := all[0]; r.Daemon != "daemon" || r.Crashes != 3 || r.Reason != "segmentation fault" ||
		time.Since(r.Last) > time.Minute {
		t.Errorf("record %+v", r)
	}
	next := *d
	next.Command = []string{"sh", "-c", "kill -9 $$"}
	if err := next.Run(t.Context()); !errors.Is(err, ErrGaveUp) {
		t.Errorf("the next one ended with %v", err)
	}
	if all, err = Records(d.Records); err != nil || all[0].Crashes != 3+quick.Attempts || all[0].Reason != "killed" {
		t.Errorf("records %v, %v", all, err)
	}
}

// A daemon that exits is not started again: a volfile server that refuses it ends it for good.
func TestExitIsNoCrash(t *testing.T) {
	_, pids, _, ended := start(t, "exit 3", quick)
	err := <-ended
	if err == nil || !strings.Contains(err.Error(), "daemon ended by itself (exit status 3)") {
		t.Errorf("ended with %v", err)
	}
	if text, _ := os.ReadFile(pids); strings.Count(string(text), "\n") != 1 {
		t.Errorf("it was started more than once: %s", text)
	}
}

// A daemon that is told to end may take its time, and its exit is no error.
func TestStopsWithTheDaemon(t *testing.T) {
	const script = `trap 'touch %s; sleep 0.5; touch %s; exit 15' TERM; echo >%s; while :; do sleep 0.01; done`
	marks := t.TempDir()
	mark := func(name string) string { return filepath.Join(marks, name) }
	_, _, stop, ended := start(t, fmt.Sprintf(script, mark("told"), mark("finished"), mark("ready")), quick)
	for !exists(mark("ready")) {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if !exists(mark("told")) || !exists(mark("finished")) {
		t.Error("the supervisor ended before the daemon")
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// Signals that GlusterFS knows reach the daemon. They are sent to the supervisor, which is the first
// process of its container.
func TestSignalsArePassedOn(t *testing.T) {
	marks := t.TempDir()
	got, ready := filepath.Join(marks, "got"), filepath.Join(marks, "ready")
	start(t, fmt.Sprintf(`trap 'touch %s' USR1; echo >%s; while :; do sleep 0.01; done`, got, ready), quick)
	for !exists(ready) {
		time.Sleep(10 * time.Millisecond)
	}
	kill(t, os.Getpid(), syscall.SIGUSR1)
	for range 3000 {
		if exists(got) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the daemon did not get the signal")
}

// Crashes in a row wait longer and longer, up to a limit; a daemon that has run long enough starts
// from the beginning.
func TestPauses(t *testing.T) {
	limits := Limits{First: 20 * time.Millisecond, Longest: 80 * time.Millisecond, Lasting: time.Hour, Attempts: 6}
	_, _, _, ended := start(t, "kill -9 $$", limits)
	begin := time.Now()
	if err := <-ended; !errors.Is(err, ErrGaveUp) {
		t.Fatalf("ended with %v", err)
	}
	if took := time.Since(begin); took < (20+40+80+80+80)*time.Millisecond {
		t.Errorf("gave up after %s", took)
	}
	lasting := Limits{First: time.Millisecond, Longest: time.Millisecond, Lasting: time.Nanosecond, Attempts: 2}
	_, pids, _, _ := start(t, "kill -9 $$", lasting)
	nth(t, pids, 10)
}

// The record of another version, or half of one, keeps nobody from serving.
func TestUnreadableRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "daemon"+suffix), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Records(dir); err == nil {
		t.Error("half a record was read")
	}
	d := &Daemon{
		Name: "daemon", Command: []string{"sh", "-c", "kill -9 $$"}, Records: dir, Log: testr.New(t), Limits: quick,
	}
	if err := d.Run(t.Context()); !errors.Is(err, ErrGaveUp) {
		t.Errorf("ended with %v", err)
	}
	if all, err := Records(dir); err != nil || all[0].Crashes != quick.Attempts {
		t.Errorf("records %v, %v", all, err)
	}
	if all, err := Records(filepath.Join(dir, "none")); err != nil || all != nil {
		t.Errorf("a directory that does not exist has records %v, %v", all, err)
	}
}

// The copy can be executed, also where one exists already and is running.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	copied := filepath.Join(dir, Program)
	for range 2 {
		if err := Install(dir); err != nil {
			t.Fatal(err)
		}
		running := exec.Command(copied, "-test.run=TestSleepsForInstall", "-test.timeout=0")
		running.Env = []string{"SLEEP=1"}
		if err := running.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = running.Process.Kill()
			_ = running.Wait()
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
	err := Install(filepath.Join(dir, "none"))
	if err == nil || !strings.Contains(err.Error(), "install the supervisor") {
		t.Errorf("installing where nothing is: %v", err)
	}
}

// TestSleepsForInstall is what the copies of this program do.
func TestSleepsForInstall(t *testing.T) {
	if os.Getenv("SLEEP") != "" {
		time.Sleep(time.Hour)
	}
}
