package model

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// A step is a word: what happens, and to which brick, such as "kill:1". Steps that are not
// possible when their turn comes are passed over, so that a sequence still makes sense when steps
// are left out.
var kinds = []struct {
	name   string
	weight int
	brick  bool // it happens to one brick
}{
	{"write", 4, false},   // write, overwrite, rename and delete files
	{"kill", 3, true},     // the brick's process dies
	{"power", 3, true},    // the node loses power
	{"cut", 2, true},      // the node is cut off
	{"back", 6, false},    // what is away comes back
	{"blackout", 1, true}, // all nodes lose power; this one starts last
	{"move", 3, true},     // the document moves the brick to another node
	{"lose", 2, true},     // the same, while the former pod runs on, unknown to Kubernetes
	{"renew", 2, true},    // the document names another path on the same node
	{"revert", 3, true},   // the commit that moved or renewed the brick last is reverted
	{"copy", 2, true},     // somebody copies the brick's disk
	{"restore", 2, true},  // the brick's disk is restored from the copy
}

func generate(random *rand.Rand, n int) []string {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	sequence := []string{"write"}
	for range n {
		pick := random.IntN(total)
		for _, k := range kinds {
			if pick -= k.weight; pick >= 0 {
				continue
			}
			step := k.name
			if k.brick {
				step += fmt.Sprintf(":%d", random.IntN(bricksOfSet))
			}
			sequence = append(sequence, step)
			break
		}
	}
	return append(sequence, "write", "back")
}

// parse splits a step.
func parse(step string) (kind string, brick int, err error) {
	kind, number, hasBrick := strings.Cut(step, ":")
	if hasBrick {
		if brick, err = strconv.Atoi(number); err != nil || brick < 0 || brick >= bricksOfSet {
			return "", 0, fmt.Errorf("step %q: no such brick", step)
		}
	}
	return kind, brick, nil
}
