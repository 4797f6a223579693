package main

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"
)

// outcome is what came of a suite.
type outcome struct {
	suite                   string
	passed, failed, skipped int
	failures                []failure
	skips                   []skip
	packages                []string // result lines of packages with tests
	took                    time.Duration
	// computed is the processor time of all processes of the suite that were waited for.
	computed time.Duration
}

// failure is a test that failed, with what it printed. A package whose tests could not be
// built or run, or a make target, is a failure by its name.
type failure struct {
	name   string
	output []string
}

// skip is a test that was skipped, and why.
type skip struct{ name, reason string }

// event is a line of 'go test -json' (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath, FailedBuild string
	Elapsed                                                float64
}

// test identifies a test of a suite.
type test struct{ pkg, name string }

// collector makes an outcome of events.
type collector struct {
	outcome
	log io.Writer
	// failing is called as soon as a test fails.
	failing func(name string, elapsed float64)
	output  map[test][]string // of tests that have not ended
	builds  map[string][]string
	broken  map[string]bool // packages with a failed test
}

func newCollector(log io.Writer, failing func(string, float64)) *collector {
	return &collector{
		log: log, failing: failing, output: map[test][]string{}, builds: map[string][]string{},
		broken: map[string]bool{},
	}
}

// read reads events to the end. Lines that are no events are only logged.
func (c *collector) read(from io.Reader) error {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil && e.Action != "" {
			c.add(e)
		} else if len(line) > 0 {
			_, _ = c.log.Write(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *collector) add(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		_, _ = io.WriteString(c.log, e.Output)
		c.addOutput(t, e)
	case "run":
		c.output[t] = nil
	case "pass", "skip", "fail", "bench":
		if e.Test == "" {
			c.endPackage(e)
			return
		}
		c.endTest(t, e)
	}
}

func (c *collector) addOutput(t test, e event) {
	line := strings.TrimRight(e.Output, "\n")
	switch {
	case e.Action == "build-output":
		c.builds[e.ImportPath] = append(c.builds[e.ImportPath], line)
	case e.Test != "":
		c.output[t] = append(c.output[t], line)
	case strings.HasPrefix(line, "ok  ") || strings.HasPrefix(line, "FAIL\t"):
		c.packages = append(c.packages, line)
	default:
		c.output[t] = append(c.output[t], line)
	}
}

func (c *collector) endTest(t test, e event) {
	name := shortName(t)
	switch e.Action {
	case "pass", "bench": // a benchmark that printed something
		c.passed++
	case "skip":
		c.skipped++
		c.skips = append(c.skips, skip{name, reason(c.output[t])})
	case "fail":
		c.failed++
		c.broken[t.pkg] = true
		c.failures = append(c.failures, failure{name, c.output[t]})
		c.failing(name, e.Elapsed)
	}
	delete(c.output, t)
}

// endPackage counts tests that never ended, as in a panic or after the time limit, and a
// package that failed without a test. Benchmarks that print nothing have no end of their own.
func (c *collector) endPackage(e event) {
	own := test{pkg: e.Package}
	for _, t := range c.unfinished(e.Package) {
		if e.Action != "fail" {
			c.endTest(t, event{Action: "pass"})
			continue
		}
		c.output[t] = append(c.output[t], "    the test did not end")
		c.endTest(t, event{Action: "fail"})
	}
	if e.Action == "fail" && !c.broken[e.Package] {
		c.failed++
		c.failures = append(c.failures, failure{e.Package, append(c.builds[e.FailedBuild], c.output[own]...)})
		c.failing(e.Package, e.Elapsed)
	}
	delete(c.output, own)
}

// unfinished lists the tests of a package that have not ended.
func (c *collector) unfinished(pkg string) []test {
	var all []test
	for t := range c.output {
		if t.pkg == pkg && t.name != "" {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b test) int { return strings.Compare(a.name, b.name) })
	return all
}

// shortName is the last part of a package's path with the name of a test.
func shortName(t test) string {
	return t.pkg[strings.LastIndexByte(t.pkg, '/')+1:] + "." + t.name
}

// reason is the last line that a skipped test printed, without its place in the source.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "=== ") {
			continue
		}
		if place, rest, found := strings.Cut(line, ": "); found && strings.Contains(place, ".go:") {
			return rest
		}
		return line
	}
	return "no reason given"
}
