package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// step is a command of a page, and the output that the page shows.
type step struct {
	line    int
	command string
	prints  []string
}

// steps are the commands of a page's console blocks: after "$ ", with lines after "> ".
func steps(page string) []step {
	var all []step
	inside := false
	for i, line := range strings.Split(page, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case strings.HasPrefix(line, "$ "):
			all = append(all, step{line: i + 1, command: line[2:]})
		case strings.HasPrefix(line, "> "):
			all[len(all)-1].command += "\n" + line[2:]
		default:
			all[len(all)-1].prints = append(all[len(all)-1].prints, line)
		}
	}
	return all
}

var spaces = regexp.MustCompile(`\s+`)

// matches compares output with the page. Any white space is equal, and "…" matches anything,
// also whole lines.
func matches(want []string, have string) bool {
	pattern := regexp.QuoteMeta(strings.TrimSpace(spaces.ReplaceAllString(strings.Join(want, "\n"), " ")))
	for _, r := range [][2]string{{"… ", "(?:.* )?"}, {" …", "(?: .*)?"}, {"…", ".*"}} {
		pattern = strings.ReplaceAll(pattern, r[0], r[1])
	}
	ok, err := regexp.MatchString("^(?s:"+pattern+")$", strings.TrimSpace(spaces.ReplaceAllString(have, " ")))
	return err == nil && ok
}

// TestQuickstart runs docs/quickstart.md word for word, in one shell, on the cluster that the
// page starts.
func TestQuickstart(t *testing.T) {
	onlyFull(t)
	if os.Getuid() != 0 {
		t.Skip("starts nodes as processes: needs root")
	}
	page, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("../../.cache/cluster/pid"); err == nil {
		t.Skip("a cluster of make cluster-up may be running: stop it with make cluster-down")
	}
	sh := newShell(t)
	t.Cleanup(func() {
		if _, err := os.Stat("../../.cache/cluster/pid"); err != nil {
			return
		}
		cmd := exec.Command("make", "cluster-down")
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("stop the cluster: %v: %s", err, out)
		}
	})
	for _, s := range steps(string(page)) {
		start := time.Now()
		out, code := sh.run(s.command)
		t.Logf("%4.0f s  $ %s", time.Since(start).Seconds(), strings.SplitN(s.command, "\n", 2)[0])
		if code != "0" {
			t.Fatalf("docs/quickstart.md:%d: %s: exit code %s:\n%s", s.line, s.command, code, out)
		}
		if !matches(s.prints, out) {
			t.Errorf("docs/quickstart.md:%d: %s prints:\n%s\nand the page says:\n%s", s.line, s.command, out,
				strings.Join(s.prints, "\n"))
		}
	}
}

// shell is one bash for all commands, so that exported variables persist.
type shell struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

// commandEnd is what the shell prints after each command, with its exit code.
const commandEnd = "--- end of command "

func newShell(t *testing.T) *shell {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	t.Cleanup(cancel)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "bash")
	cmd.Dir = root
	// A make below make would print the directory that it enters.
	cmd.Env = slices.DeleteFunc(os.Environ(),
		func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") })
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
		read.Close()
	})
	return &shell{t: t, in: in, out: bufio.NewReader(read)}
}

// run runs a command, and returns its output and exit code.
func (s *shell) run(command string) (out, code string) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null\necho \"%s$?\"\n", command, commandEnd); err != nil {
		s.t.Fatal(err)
	}
	var b strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if before, code, found := strings.Cut(strings.TrimSuffix(line, "\n"), commandEnd); found {
			return b.String() + before, code
		}
		b.WriteString(line)
		if err != nil {
			s.t.Fatalf("the shell ended in %s: %v\n%s", command, err, b.String())
		}
	}
}
