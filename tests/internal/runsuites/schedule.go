package main

import (
	"context"
	"slices"
	"time"
)

// schedule runs suites in their order, at most beside at a time, each after those that its
// 'after' lists. It returns the outcomes in the order of the suites.
func schedule(ctx context.Context, all []suite, beside int, run func(context.Context, suite) outcome) []outcome {
	type ended struct {
		index int
		outcome
	}
	const waiting, running, done = 0, 1, 2
	states, outcomes := make([]int, len(all)), make([]outcome, len(all))
	results := make(chan ended)
	mayStart := func(s suite) bool {
		return !slices.ContainsFunc(s.after, func(name string) bool {
			i := slices.IndexFunc(all, func(o suite) bool { return o.name == name })
			return i >= 0 && states[i] != done
		})
	}
	for active, left := 0, len(all); left > 0; {
		for i, s := range all {
			if active < beside && states[i] == waiting && mayStart(s) {
				states[i], active = running, active+1
				go func() {
					began := time.Now()
					o := run(ctx, s)
					o.suite, o.took = s.name, time.Since(began)
					results <- ended{i, o}
				}()
			}
		}
		r := <-results
		states[r.index], outcomes[r.index] = done, r.outcome
		active, left = active-1, left-1
	}
	return outcomes
}
