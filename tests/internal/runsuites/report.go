package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// shownLines is how many lines of a failed test are printed; its log has all.
const shownLines = 80

// endDelay is how long a suite may take to end when it is interrupted.
const endDelay = 20 * time.Second

// reporter runs suites and prints what comes of them, one suite at a time.
type reporter struct {
	mu    sync.Mutex
	out   io.Writer
	alone bool // only one suite runs
}

func (r *reporter) printf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format, args...)
}

func logPath(s suite) string { return filepath.Join(cacheDir, "test-"+s.name+".log") }

// run runs one suite.
func (r *reporter) run(ctx context.Context, s suite, more []string) outcome {
	if !r.alone {
		r.printf("%s: started\n", s.name)
	}
	if s.root && os.Getuid() != 0 {
		o := outcome{skipped: 1, skips: []skip{{s.name, "needs root"}}}
		r.print(s, o)
		return o
	}
	o, err := r.execute(ctx, s, more)
	if err != nil {
		o.failed++
		o.failures = append(o.failures, failure{s.name, []string{"    " + err.Error()}})
	}
	r.print(s, o)
	return o
}

func (r *reporter) execute(ctx context.Context, s suite, more []string) (o outcome, err error) {
	command, err := s.command(more)
	if err != nil {
		return outcome{}, err
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return outcome{}, err
	}
	log, err := os.Create(logPath(s))
	if err != nil {
		return outcome{}, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stderr, cmd.Env = s.module, log, append(os.Environ(), s.env...)
	// The tests that 'go test' has started are in its process group: they end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = endDelay
	defer func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // usually none is left
		}
		if p := cmd.ProcessState; p != nil {
			o.computed = p.UserTime() + p.SystemTime()
		}
	}()
	if s.target != "" {
		return outcome{}, runTarget(cmd, log)
	}
	events, err := cmd.StdoutPipe()
	if err != nil {
		return outcome{}, err
	}
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	c := newCollector(log,
		func(name string, elapsed float64) { r.printf("%s: FAIL %s after %.0f s\n", s.name, name, elapsed) })
	readErr := c.read(events)
	err = cmd.Wait()
	if readErr != nil {
		return c.outcome, fmt.Errorf("read the results: %w", readErr)
	}
	if err != nil && c.failed == 0 {
		return c.outcome, fmt.Errorf("%s: %w; %s has its output", strings.Join(command[:2], " "), err, log.Name())
	}
	return c.outcome, nil
}

// runTarget runs a make target; its error has the end of its output.
func runTarget(cmd *exec.Cmd, log *os.File) error {
	cmd.Stdout = log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w\n%s", err, strings.Join(tail(strings.Split(strings.TrimSpace(string(text)), "\n")), "\n"))
	}
	return nil
}

func tail(lines []string) []string {
	if len(lines) > shownLines {
		return append([]string{fmt.Sprintf("    ... %d lines more in the log", len(lines)-shownLines)},
			lines[len(lines)-shownLines:]...)
	}
	return lines
}

// print prints a suite's packages, failures and skips, and its closing line.
func (r *reporter) print(s suite, o outcome) {
	var b strings.Builder
	for _, line := range o.packages {
		fmt.Fprintln(&b, line)
	}
	for _, f := range o.failures {
		fmt.Fprintf(&b, "--- FAIL %s\n%s\n", f.name, strings.Join(tail(f.output), "\n"))
	}
	if len(o.skips) > 0 {
		fmt.Fprintf(&b, "skipped in %s:\n", s.name)
		for _, k := range o.skips {
			fmt.Fprintf(&b, "  %s: %s\n", k.name, k.reason)
		}
	}
	if s.target == "" {
		fmt.Fprintf(&b, "%s: %s\n", s.name, o.counts())
	} else if o.failed+o.skipped == 0 {
		fmt.Fprintf(&b, "%s: done\n", s.name)
	}
	r.printf("%s", b.String())
}

func (o outcome) counts() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", o.passed, o.failed, o.skipped)
}

// summary prints how long suites took, all failures, and the total; it reports whether there
// is no failure.
func (r *reporter) summary(outcomes []outcome) bool {
	total := outcome{}
	var times, failures strings.Builder
	for _, o := range outcomes {
		total.passed, total.failed, total.skipped = total.passed+o.passed, total.failed+o.failed,
			total.skipped+o.skipped
		fmt.Fprintf(&times, "  %-10s %4.0f s, %4.0f s of processor time\n", o.suite, o.took.Seconds(),
			o.computed.Seconds())
		for _, f := range o.failures {
			fmt.Fprintf(&failures, "  %s: %s\n", o.suite, f.name)
		}
	}
	if !r.alone {
		r.printf("\ntime:\n%s", times.String())
	}
	if total.failed > 0 {
		r.printf("failed:\n%s", failures.String())
	}
	if !r.alone {
		r.printf("total: %s\n", total.counts())
	}
	return total.failed == 0
}
