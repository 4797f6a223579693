package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// show is the state of the demo between steps.
type show struct {
	ctx     context.Context
	dir     string
	cluster *podrun.Cluster
	volume  string // where the pool is mounted
	written files
	steps   []step
}

// step is a line of the closing table.
type step struct {
	name, result string
	took         time.Duration
}

// step runs one step and prints its time and result.
func (s *show) step(name string, do func() (string, error)) error {
	fmt.Printf("==> %s\n", name)
	begin := time.Now()
	result, err := do()
	took := time.Since(begin)
	if err != nil {
		s.steps = append(s.steps, step{name, "FAILED", took})
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("    %s %s\n", round(took), result)
	s.steps = append(s.steps, step{name, result, took})
	return nil
}

func round(d time.Duration) string { return fmt.Sprintf("%6.2f s", d.Seconds()) }

// end cleans up and prints the table.
func (s *show) end(failure error) error {
	begin := time.Now()
	var errs []error
	if s.cluster != nil {
		errs = append(errs, s.cluster.Close())
	}
	errs = append(errs, os.RemoveAll(s.dir))
	err := errors.Join(errs...)
	s.steps = append(s.steps, step{
		"clean up", map[bool]string{true: "nothing left", false: "FAILED"}[err == nil],
		time.Since(begin),
	})
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STEP\tTIME\tRESULT")
	total := time.Duration(0)
	for _, st := range s.steps {
		total += st.took
		fmt.Fprintf(w, "%s\t%s\t%s\n", st.name, round(st.took), st.result)
	}
	fmt.Fprintf(w, "all\t%s\t%s\n", round(total),
		map[bool]string{true: "data written, lost brick healed, nothing lost", false: "FAILED"}[failure == nil &&
			err == nil])
	return errors.Join(err, w.Flush())
}
