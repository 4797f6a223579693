package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
)

const (
	clients = 8
	// databaseLimit is how long pgbench may take in total.
	databaseLimit = 10 * time.Minute
)

// scale is pgbench's: 5 is 500,000 rows, 75 MB.
func scale() int   { return pick(5, 1) }
func seconds() int { return pick(10, 1) }

// asUser runs a program as the user postgres, which may pass through the directories of this test.
var asUser = []string{
	"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
	"--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
}

// pgbench returns the transactions per second of pgbench's default script, with Debian's default
// settings of PostgreSQL: each is synced by fdatasync.
func pgbench(dir string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), databaseLimit)
	defer cancel()
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(programs) == 0 {
		return 0, errors.New("PostgreSQL is not installed: run make deps")
	}
	command := func(name string, args ...string) *exec.Cmd {
		args = append(append(asUser[1:len(asUser):len(asUser)], filepath.Join(programs[len(programs)-1], name)),
			args...)
		return exec.CommandContext(ctx, asUser[0], args...)
	}
	run := func(name string, args ...string) (string, error) {
		out, err := command(name, args...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return string(out), nil
	}
	data := filepath.Join(dir, "pg")
	sockets, err := os.MkdirTemp("", "pg-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(sockets)
	if err := os.Mkdir(data, 0o700); err != nil {
		return 0, err
	}
	for _, of := range []string{data, sockets} {
		if out, err := exec.CommandContext(ctx, "chown", "postgres:postgres", of).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("chown: %w: %s", err, out)
		}
	}
	if _, err := run("initdb", "--no-sync", "--auth=trust", "-D", data); err != nil {
		return 0, err
	}
	server := command("postgres", "-D", data, "-k", sockets, "-c", "listen_addresses=")
	server.Cancel = func() error { return server.Process.Signal(syscall.SIGQUIT) }
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if err := spawn.Start(server); err != nil {
		return 0, err
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGINT) // a fast shutdown; it may have ended
		_ = server.Wait()
	}()
	for ready := false; !ready; {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("start PostgreSQL: %w", ctx.Err())
		}
		_, err := run("pg_isready", "-q", "-h", sockets)
		ready = err == nil
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := run("pgbench", "-q", "-i", "-s", strconv.Itoa(scale()), "-h", sockets, "postgres"); err != nil {
		return 0, err
	}
	out, err := run("pgbench", "-c", strconv.Itoa(clients), "-T", strconv.Itoa(seconds()), "-h", sockets, "postgres")
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`tps = ([0-9.]+)`).FindStringSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench printed no rate: %s", out)
	}
	return strconv.ParseFloat(found[1], 64)
}
