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

// HealOp is an operation of the self-heal daemon (GlusterFS 10: gf_xl_afr_op_t).
type HealOp int

// Operations.
const (
	HealIndex HealOp = 1 // heal the entries of its brick's index
	HealFull  HealOp = 2 // heal everything: for a new, empty brick
)

// ErrHeal says that the self-heal daemon refuses an operation.
var ErrHeal = errors.New("the self-heal daemon refuses")

// Healers are the sets of a pool in the graph of its self-heal daemon.
type Healers []HealSet

// HealSet is a set: the name of its xlator, and its bricks. Disperse says that each brick
// has a part of the data instead of a copy.
type HealSet struct {
	Name     string
	Disperse bool
	Bricks   []HealBrick
}

// HealBrick is how the daemon connects to a brick. Name is the name of its client xlator,
// which ends in -client- and the brick's index, Directory the directory that the brick
// serves, and User the client's user name.
type HealBrick struct{ Name, Host, Port, Directory, User string }

// FewerReplicas is the user name of clients that know one replica fewer: user names end in
// the number of replicas. "" if there are none.
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

// Around finds the set of a brick, by its client name, and the set's other bricks.
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

// ParseHealers parses the volfile of a self-heal daemon.
func ParseHealers(volfile string) (Healers, error) {
	g, err := parseGraph(volfile)
	if err != nil {
		return nil, fmt.Errorf("parse the self-heal daemon's volfile: %w", err)
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

// Heal starts a heal of these sets by the self-heal daemon at a unix socket, from its own
// brick. It returns when the heal has started.
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
		return fmt.Errorf("start a heal: %w", err)
	}
	result, number := int32(r.Number()), r.Number()
	r.Bytes() // results by set
	text := string(r.Bytes())
	if err := r.Err(); err != nil {
		return err
	}
	if result < 0 {
		return fmt.Errorf("%w: %s %w", ErrHeal, text, syscall.Errno(number))
	}
	return nil
}
