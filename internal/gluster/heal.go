package gluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"

	"github.com/atoll-storage/atoll/internal/gluster/onc"
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

// Healers are the sets of a pool in the graph of its self-heal daemon, and the bricks
// that they reach.
type Healers struct {
	Sets   []string // names of xlators
	Bricks []string // host:port
}

// ParseHealers reads the volfile of a self-heal daemon.
func ParseHealers(volfile string) (Healers, error) {
	g, err := parseGraph(volfile)
	if err != nil {
		return Healers{}, fmt.Errorf("reading the self-heal daemon's volfile: %w", err)
	}
	var h Healers
	for _, v := range g.order {
		switch v.kind {
		case "cluster/replicate", "cluster/disperse":
			h.Sets = append(h.Sets, v.name)
		case "protocol/client":
			h.Bricks = append(h.Bricks, v.options["remote-host"]+":"+v.options["remote-port"])
		}
	}
	return h, nil
}

// Heal asks the self-heal daemon at a unix socket to heal its own brick's part of these
// sets. It answers when it has begun.
func (h Healers) Heal(ctx context.Context, socket string, op HealOp) error {
	pairs := []string{"xl-op", strconv.Itoa(int(op)), "count", strconv.Itoa(len(h.Sets))}
	for i, name := range h.Sets {
		pairs = append(pairs, "xl-"+strconv.Itoa(i), name, name, strconv.Itoa(i))
	}
	arguments := onc.Bytes(nil) // no name: the process has one graph
	arguments = append(arguments, onc.Numbers(uint32(op))...)
	arguments = append(arguments, onc.Bytes(dictionary(pairs...))...)
	arguments = append(arguments, onc.Bytes(nil)...)
	r, err := onc.Call(ctx, socket, brickProgram, brickVersion, brickXlatorOp, arguments)
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
