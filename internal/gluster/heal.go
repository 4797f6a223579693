package gluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// The management program of a process, and its procedure for single xlators (GlusterFS
// 10: rpc/rpc-lib/src/protocol-common.h).
const (
	brickProgram, brickVersion = 4867634, 2
	brickXlatorOp              = 3
)

// HealOp is what a self-heal daemon is asked for (GlusterFS 10: gf_xl_afr_op_t).
type HealOp int

// Operations.
const (
	HealIndex HealOp = 1 // what the index of its brick lists
	HealFull  HealOp = 2 // everything: for a brick that is new and empty
)

// ErrHeal says that a self-heal daemon does not do what it is asked for.
var ErrHeal = errors.New("the self-heal daemon refuses")

// Healers are the sets of a pool in the graph of its self-heal daemon.
type Healers []HealSet

// HealSet is one of them: the name of its xlator, and its bricks. Coded tells that each
// has a part of the data, and not a copy.
type HealSet struct {
	Name   string
	Disperse  bool
	Bricks []HealBrick
}

// HealBrick is a brick as the daemon reaches it. Name is that of its client xlator,
// which ends in -client- and the brick's index, Folder the one that the brick serves, and
// User what the client calls itself.
type HealBrick struct{ Name, Host, Port, Directory, User string }

// FewerReplicas is what clients call themselves that know of a copy less than this one: a name
// ends in how many. "" when there is none.
func (b HealBrick) FewerReplicas() string {
	at := strings.LastIndexByte(b.User, '-')
	copies, err := strconv.Atoi(b.User[at+1:])
	if err != nil || copies < 1 {
		return ""
	}
	return b.User[:at+1] + strconv.Itoa(copies-1)
}

func newHealBrick(client *volume) HealBrick {
	o := client.options
	return HealBrick{client.name, o["remote-host"], o["remote-port"], o["remote-subvolume"], o["username"]}
}

// Around finds the set of a brick, by its name in the graph, and the set's other bricks.
func (h Healers) Around(brick string) (set HealSet, others []HealBrick, found bool) {
	for _, set := range h {
		others = nil
		for _, b := range set.Bricks {
			if b.Name != brick {
				others = append(others, b)
			}
		}
		if len(others) < len(set.Bricks) {
			return set, others, true
		}
	}
	return HealSet{}, nil, false
}

// ParseHealers reads the volfile of a self-heal daemon.
func ParseHealers(volfile string) (Healers, error) {
	g, err := parseGraph(volfile)
	if err != nil {
		return nil, fmt.Errorf("reading the self-heal daemon's volfile: %w", err)
	}
	var h Healers
	for _, v := range g.order {
		if v.kind != "cluster/replicate" && v.kind != "cluster/disperse" {
			continue
		}
		set := HealSet{Name: v.name, Disperse: v.kind == "cluster/disperse"}
		for _, name := range v.subvolumes {
			set.Bricks = append(set.Bricks, newHealBrick(g.volumes[name]))
		}
		h = append(h, set)
	}
	return h, nil
}

// Heal asks the self-heal daemon at a unix socket to heal its own brick's part of these
// sets. It answers when it has begun.
func (h Healers) Heal(ctx context.Context, socket string, op HealOp) error {
	pairs := []string{"xl-op", strconv.Itoa(int(op)), "count", strconv.Itoa(len(h))}
	for i, set := range h {
		pairs = append(pairs, "xl-"+strconv.Itoa(i), set.Name, set.Name, strconv.Itoa(i))
	}
	arguments := oncrpc.Bytes(nil) // no name: the process has one graph
	arguments = append(arguments, oncrpc.Numbers(uint32(op))...)
	arguments = append(arguments, oncrpc.Bytes(dictionary(pairs...))...)
	arguments = append(arguments, oncrpc.Bytes(nil)...)
	r, err := oncrpc.Call(ctx, socket, brickProgram, brickVersion, brickXlatorOp, arguments)
	if err != nil {
		return fmt.Errorf("asking the self-heal daemon: %w", err)
	}
	result, number := int32(r.Number()), r.Number()
	r.Bytes() // what it tells of each set
	text := string(r.Bytes())
	if err := r.Err(); err != nil {
		return err
	}
	if result < 0 {
		return fmt.Errorf("%w: %s %w", ErrHeal, text, syscall.Errno(number))
	}
	return nil
}
