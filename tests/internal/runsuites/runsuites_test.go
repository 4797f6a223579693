package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestScheduleOrder checks that suites start in order, after those they wait for, and no more
// of them at once than allowed.
func TestScheduleOrder(t *testing.T) {
	all := []suite{{name: "a"}, {name: "b"}, {name: "c", after: []string{"a", "unknown"}}, {name: "d"}}
	var mu sync.Mutex
	running, most, ended := 0, 0, []string{}
	outcomes := schedule(t.Context(), all, 2, func(_ context.Context, s suite) outcome {
		mu.Lock()
		running++
		most = max(most, running)
		if s.name == "c" && !slices.Contains(ended, "a") {
			t.Error("c started before a ended")
		}
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		running--
		ended = append(ended, s.name)
		return outcome{passed: len(s.name)}
	})
	if most != 2 {
		t.Errorf("%d suites ran at once, want 2", most)
	}
	for i, o := range outcomes {
		if o.suite != all[i].name || o.passed != 1 {
			t.Errorf("outcome %d is %+v", i, o)
		}
	}
}

// TestCollect reads what 'go test -json' prints of passed, failed, skipped and unfinished
// tests, and of a package that does not compile.
func TestCollect(t *testing.T) {
	const pkg = "example.org/x/block"
	var b strings.Builder
	add := func(action, test, output string) {
		fmt.Fprintf(&b, `{"Action":%q,"Package":%q,"Test":%q,"Output":%q}`+"\n", action, pkg, test, output)
	}
	add("run", "TestA", "")
	add("run", "TestB", "")
	add("output", "TestA", "    a_test.go:7: brick 0: exit status 1\n")
	add("output", "TestB", "    b_test.go:7: no root\n")
	add("output", "TestB", "--- SKIP: TestB (0.00s)\n")
	add("skip", "TestB", "")
	add("fail", "TestA", "")
	add("run", "TestC", "")
	add("pass", "TestC", "")
	add("run", "TestD", "")
	add("output", "", "FAIL\texample.org/x/block\t1.0s\n")
	add("fail", "", "")
	b.WriteString(`{"ImportPath":"example.org/x/bad","Action":"build-output","Output":"x.go:1: undefined: y\n"}` +
		"\n" +
		`{"Action":"fail","Package":"example.org/x/bad","FailedBuild":"example.org/x/bad"}` + "\nnot an event\n")
	var log, live strings.Builder
	c := newCollector(&log, func(name string, _ float64) { fmt.Fprintln(&live, name) })
	if err := c.read(strings.NewReader(b.String())); err != nil {
		t.Fatal(err)
	}
	if got := c.counts(); got != "1 passed, 3 failed, 1 skipped" {
		t.Error(got)
	}
	if want := "block.TestA\nblock.TestD\nexample.org/x/bad\n"; live.String() != want {
		t.Errorf("reported at once: %q, want %q", live.String(), want)
	}
	if k := c.skips; len(k) != 1 || k[0] != (skip{"block.TestB", "no root"}) {
		t.Errorf("skips %v", k)
	}
	if f := c.failures[2]; len(f.output) != 1 || !strings.Contains(f.output[0], "undefined: y") {
		t.Errorf("the failed build: %v", f)
	}
	if !strings.Contains(log.String(), "brick 0: exit status 1") || !strings.Contains(log.String(), "not an event") {
		t.Errorf("log:\n%s", log.String())
	}
}

// TestSummaryListsFailures checks that all failures are listed at the end, and the total.
func TestSummaryListsFailures(t *testing.T) {
	var out strings.Builder
	r := &reporter{out: &out}
	failed := outcome{suite: "block", passed: 3, failed: 1, failures: []failure{{name: "block.TestRace"}}}
	if r.summary([]outcome{{suite: "fast", passed: 7, skipped: 2}, failed}) {
		t.Error("success was reported")
	}
	if text := out.String(); !strings.HasSuffix(text,
		"failed:\n  block: block.TestRace\ntotal: 10 passed, 1 failed, 2 skipped\n") {
		t.Error(text)
	}
	if !(&reporter{out: io.Discard}).summary([]outcome{{passed: 1}}) {
		t.Error("failure was reported")
	}
}

// TestSuitesExist checks that names are unique and that suites wait only for suites that exist.
func TestSuitesExist(t *testing.T) {
	names := map[string]bool{}
	for _, s := range suites {
		for _, before := range s.after {
			if !names[before] {
				t.Errorf("%s waits for %s, which does not start before it", s.name, before)
			}
		}
		if names[s.name] {
			t.Errorf("two suites %s", s.name)
		}
		names[s.name] = true
	}
	if _, err := choose([]string{"none"}); err == nil {
		t.Error("an unknown suite was accepted")
	}
}
