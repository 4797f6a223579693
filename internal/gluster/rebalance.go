package gluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// Procedure and command by which a rebalance tells how far it is (GlusterFS 10:
// GLUSTERD_BRICK_XLATOR_DEFRAG, GF_DEFRAG_CMD_STATUS).
const (
	brickDefrag         = 6
	rebalanceStatus     = "3"
	rebalanceStatusCode = 3
)

// RebalanceState is where a rebalance is (GlusterFS 10: gf_defrag_status_t).
type RebalanceState int

// States.
const (
	RebalanceNotStarted RebalanceState = iota
	RebalanceStarted
	RebalanceStopped
	RebalanceComplete
	RebalanceFailed
)

// Progress is how far a rebalance is.
type Progress struct {
	State                  RebalanceState
	Scanned, Moved          uint64 // files
	Bytes                  uint64 // moved
	Failed, Skipped        uint64 // files
	Elapsed, EstimatedLeft time.Duration
}

// ParseProgress reads what a rebalance tells of itself.
func ParseProgress(values map[string]string) Progress {
	number := func(key string) uint64 {
		n, _ := strconv.ParseFloat(values[key], 64) // what is absent or no number is 0
		return uint64(max(0, n))
	}
	return Progress{
		State:  RebalanceState(number("status")),
		Scanned: number("lookups"), Moved: number("files"), Bytes: number("size"),
		Failed: number("failures"), Skipped: number("skipped"),
		Elapsed:       time.Duration(number("run-time")) * time.Second,
		EstimatedLeft: time.Duration(number("time-left")) * time.Second,
	}
}

// Rebalance is the graph of a process that spreads a pool's files.
type Rebalance struct {
	Name     string // of the xlator that does it
	LayoutID string // of how files are to be spread
	Bricks   []HealBrick
	// Leaving are those of the bricks from which all files go.
	Leaving []HealBrick
}

// ErrNoRebalance says that a graph is none of a rebalance.
var ErrNoRebalance = errors.New("the volfile is not one of a rebalance")

// ParseRebalance reads the volfile of a rebalance.
func ParseRebalance(volfile string) (Rebalance, error) {
	g, err := parseGraph(volfile)
	if err != nil {
		return Rebalance{}, fmt.Errorf("reading the volfile of a rebalance: %w", err)
	}
	var r Rebalance
	var leaving []string
	for _, v := range g.order {
		if v.kind == "cluster/distribute" && v.options["commit-hash"] != "" {
			r.Name, r.LayoutID = v.name, v.options["commit-hash"]
			leaving = strings.Split(v.options["decommissioned-bricks"], ",")
		}
	}
	if r.Name == "" {
		return r, ErrNoRebalance
	}
	brick := strings.TrimSuffix(r.Name, "-dht") + "-client-" // and no tiebreaker
	for _, set := range g.volumes[r.Name].subvolumes {
		for _, b := range g.bricksOf(set) {
			if !strings.HasPrefix(b.name, brick) {
				continue
			}
			one := newHealBrick(b)
			r.Bricks = append(r.Bricks, one)
			if slices.Contains(leaving, set) {
				r.Leaving = append(r.Leaving, one)
			}
		}
	}
	return r, nil
}

// bricksOf are the bricks of a set; a set of one brick is the brick itself.
func (g *graph) bricksOf(set string) []*volume {
	v := g.volumes[set]
	if v.kind == "protocol/client" {
		return []*volume{v}
	}
	var all []*volume
	for _, name := range v.subvolumes {
		if b := g.volumes[name]; b.kind == "protocol/client" {
			all = append(all, b)
		}
	}
	return all
}

// Progress asks the process at a unix socket how far it is.
func (r Rebalance) Progress(ctx context.Context, socket string) (Progress, error) {
	arguments := oncrpc.Bytes([]byte(r.Name))
	arguments = append(arguments, oncrpc.Numbers(rebalanceStatusCode)...)
	arguments = append(arguments, oncrpc.Bytes(dictionary("rebalance-command", rebalanceStatus))...)
	arguments = append(arguments, oncrpc.Bytes(nil)...)
	answer, err := oncrpc.Call(ctx, socket, brickProgram, brickVersion, brickDefrag, arguments)
	if err != nil {
		return Progress{}, fmt.Errorf("asking how far the rebalance is: %w", err)
	}
	result, number := int32(answer.Number()), answer.Number()
	output := answer.Bytes()
	if err := answer.Err(); err != nil {
		return Progress{}, err
	}
	if result < 0 {
		return Progress{}, fmt.Errorf("the rebalance does not tell how far it is: %w", syscall.Errno(number))
	}
	values, err := ParseDictionary(output)
	return ParseProgress(values), err
}
