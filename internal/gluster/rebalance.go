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

// Procedure and command that return the progress of a rebalance (GlusterFS 10:
// GLUSTERD_BRICK_XLATOR_DEFRAG, GF_DEFRAG_CMD_STATUS).
const (
	brickDefrag         = 6
	rebalanceStatus     = "3"
	rebalanceStatusCode = 3
)

// RebalanceState is the state of a rebalance (GlusterFS 10: gf_defrag_status_t).
type RebalanceState int

// States.
const (
	RebalanceNotStarted RebalanceState = iota
	RebalanceStarted
	RebalanceStopped
	RebalanceComplete
	RebalanceFailed
)

// Progress is the progress of a rebalance.
type Progress struct {
	State                  RebalanceState
	Scanned, Moved         uint64 // files
	Bytes                  uint64 // moved
	Failed, Skipped        uint64 // files
	Elapsed, EstimatedLeft time.Duration
}

// ParseProgress converts the status values of a rebalance.
func ParseProgress(values map[string]string) Progress {
	number := func(key string) uint64 {
		n, _ := strconv.ParseFloat(values[key], 64) // 0 if absent or malformed
		return uint64(max(0, n))
	}
	return Progress{
		State:   RebalanceState(number("status")),
		Scanned: number("lookups"), Moved: number("files"), Bytes: number("size"),
		Failed: number("failures"), Skipped: number("skipped"),
		Elapsed:       time.Duration(number("run-time")) * time.Second,
		EstimatedLeft: time.Duration(number("time-left")) * time.Second,
	}
}

// Rebalance is the graph of a rebalance process.
type Rebalance struct {
	Name     string // of the distribute xlator
	LayoutID string // identifies the wanted layout
	Bricks   []HealBrick
	// First are the bricks of the first set, which no change of the layout removes.
	First []HealBrick
	// Leaving are the bricks of sets that are being removed.
	Leaving []HealBrick
}

// ErrNoRebalance says that a volfile is not that of a rebalance.
var ErrNoRebalance = errors.New("the volfile does not define a rebalance")

// ParseRebalance parses the volfile of a rebalance.
func ParseRebalance(volfile string) (Rebalance, error) {
	g, err := parseGraph(volfile)
	if err != nil {
		return Rebalance{}, fmt.Errorf("parse the volfile of a rebalance: %w", err)
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
	brick := strings.TrimSuffix(r.Name, "-dht") + "-client-" // leaves out the tiebreaker
	for i, set := range g.volumes[r.Name].subvolumes {
		for _, b := range g.bricksOf(set) {
			if !strings.HasPrefix(b.name, brick) {
				continue
			}
			one := newHealBrick(b)
			r.Bricks = append(r.Bricks, one)
			if i == 0 {
				r.First = append(r.First, one)
			}
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

// Progress requests the progress of the process at a unix socket.
func (r Rebalance) Progress(ctx context.Context, socket string) (Progress, error) {
	arguments := oncrpc.Bytes([]byte(r.Name))
	arguments = append(arguments, oncrpc.Numbers(rebalanceStatusCode)...)
	arguments = append(arguments, oncrpc.Bytes(dictionary("rebalance-command", rebalanceStatus))...)
	arguments = append(arguments, oncrpc.Bytes(nil)...)
	answer, err := oncrpc.Call(ctx, socket, brickProgram, brickVersion, brickDefrag, arguments)
	if err != nil {
		return Progress{}, fmt.Errorf("read the progress of the rebalance: %w", err)
	}
	result, number := int32(answer.Number()), answer.Number()
	output := answer.Bytes()
	if err := answer.Err(); err != nil {
		return Progress{}, err
	}
	if result < 0 {
		return Progress{}, fmt.Errorf("read the progress of the rebalance: %w", syscall.Errno(number))
	}
	values, err := ParseDictionary(output)
	return ParseProgress(values), err
}
