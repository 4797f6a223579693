// Command runsuites runs test suites side by side and reports all of their failures at the
// end, whatever failed first.
//
//	runsuites                    every suite of 'make test'
//	runsuites block csi          these suites
//	runsuites block -- -run Race one suite, with more arguments for 'go test'
//
// Each suite has a log in .cache/test-NAME.log and ends with a line "NAME: N passed, N failed,
// N skipped". The exit code is 1 if anything failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

func main() {
	beside := flag.Int("beside", runtime.NumCPU()+1, "suites that run at the same time; most of them mostly wait")
	flag.Parse()
	names, more := flag.Args(), []string(nil)
	if i := slices.Index(names, "--"); i >= 0 {
		names, more = names[:i], names[i+1:]
	}
	chosen, err := choose(names)
	if err != nil {
		fmt.Fprintln(os.Stderr, "runsuites:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := &reporter{out: os.Stdout, alone: len(chosen) == 1}
	outcomes := schedule(ctx, chosen, *beside,
		func(ctx context.Context, s suite) outcome { return r.run(ctx, s, more) })
	if !r.summary(outcomes) {
		os.Exit(1)
	}
}

// choose returns the suites with these names, or the suites of 'make test' without names.
func choose(names []string) ([]suite, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(slices.Clone(suites), func(s suite) bool { return s.extra }), nil
	}
	var chosen []suite
	for _, name := range names {
		i := slices.IndexFunc(suites, func(s suite) bool { return s.name == name })
		if i < 0 {
			var known []string
			for _, s := range suites {
				known = append(known, s.name)
			}
			return nil, fmt.Errorf("no suite %q; known suites: %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, suites[i])
	}
	return chosen, nil
}
