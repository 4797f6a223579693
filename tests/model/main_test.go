// Package model plays random sequences of what operators, machines and networks do to a pool, on
// real bricks and a real mount, and checks that no file that was written is lost or comes back.
package model

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/tests/internal/podrun"
	"github.com/atoll-storage/atoll/tests/internal/sandbox"
)

var (
	sequences = flag.Int("sequences", 2, "how many sequences are played")
	firstSeed = flag.Uint64("seed", 1, "the seed of the first sequence")
	steps     = flag.Int("steps", 8, "the steps of a sequence")
	replay    = flag.String("replay", "", "the steps of one sequence, as a failure prints them")
)

func TestMain(m *testing.M) {
	podrun.Child()
	sandbox.Parallel(4)
	os.Exit(sandbox.Run(m))
}

// kept are sequences that have failed once. Each is played in every run.
var kept = map[string]string{
	"all nodes lose power":                 "write blackout:0 write blackout:2 write",
	"the next brick before clients return": "write copy:2 power:0 write back copy:0 power:1 write back",
	"marked while the former one runs":     "write move:0 lose:0 lose:1 revert:1 write",
}

// TestSequences plays sequences. One that fails is shortened: steps are left out as long as it
// still fails.
func TestSequences(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("runs pods as processes: needs root, and no -short")
	}
	if _, err := exec.LookPath("glusterfsd"); err != nil {
		t.Skip("glusterfsd is not installed: run make deps")
	}
	if *replay != "" {
		if err := play(t, strings.Fields(*replay)); err != nil {
			t.Error(err)
		}
		return
	}
	for name, sequence := range kept {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := play(t, strings.Fields(sequence)); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range *sequences {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			sequence := generate(rand.New(rand.NewPCG(seed, 0)), *steps)
			t.Logf("steps: %s", strings.Join(sequence, " "))
			err := play(t, sequence)
			if err == nil {
				return
			}
			shorter, err := shorten(t, sequence, err)
			t.Errorf("%v\nreplay it: go test ./tests/model -replay='%s'", err, strings.Join(shorter, " "))
		})
	}
}

// maxReplays bounds how often a failed sequence is played again.
const maxReplays = 12

// shorten leaves out steps without which the sequence still fails.
func shorten(t *testing.T, sequence []string, failure error) ([]string, error) {
	replays := 0
	for i := len(sequence) - 1; i >= 0 && replays < maxReplays; i-- {
		without := append(append([]string(nil), sequence[:i]...), sequence[i+1:]...)
		replays++
		if err := play(t, without); err != nil && !errors.Is(err, errSetUp) {
			sequence, failure = without, err
		}
	}
	return sequence, failure
}
