package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/atoll-storage/atoll/brick/identity"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// openIdentity opens what the brick stores about itself and its set. Close it.
func (a *Agent) openIdentity() (identity.Brick, error) {
	f, err := os.Open(filepath.Join(a.Directory, ondisk.GlusterDir))
	if err != nil {
		return identity.Brick{}, fmt.Errorf("open brick: %w", err)
	}
	return identity.Brick{File: f}, nil
}

// members reads the brick's incarnation and those that it has seen in its set. What cannot be
// read is empty and logged.
func (a *Agent) members() (own ondisk.Incarnation, all ondisk.Members) {
	b, err := a.openIdentity()
	if err != nil {
		return own, nil // the brick is gone, which its other checks report
	}
	defer b.Close()
	if own, err = b.Incarnation(); err != nil {
		a.Log.Error(err, "reading the brick's incarnation")
	}
	if all, err = b.Members(); err != nil {
		a.Log.Error(err, "reading the members of the brick's set")
	}
	return own, all
}

// rememberMembers notes on the brick which incarnations the others of its set are. A brick that
// was replaced is refused when it comes back, because one of its set remembers a newer one. A
// brick that has not joined its set yet learns of it when it does.
func (h *Healer) rememberMembers(others []gluster.HealBrick, states []agent.Status) error {
	if h.hasMark(ondisk.JoiningAttribute) {
		return nil
	}
	b, err := h.openIdentity()
	if err != nil {
		return err
	}
	defer b.Close()
	members, err := b.Members()
	if err != nil {
		return err
	}
	changed := false
	for i, other := range others {
		position, isBrick := strings.CutPrefix(other.Name, h.clientPrefix())
		if isBrick && members.Learn(position, states[i].Incarnation) {
			changed = true
			h.Log.Info("learned the incarnation of a brick", "brick", position, "incarnation", states[i].Incarnation)
		}
	}
	if !changed {
		return nil
	}
	return b.SetMembers(members)
}
