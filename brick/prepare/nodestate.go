package prepare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/uuid"
)

// stateFile is the node's record of a brick, in its state directory.
const stateFile = "brick.json"

// nodeState records that a brick was created. If the brick is missing later, its disk is missing.
type nodeState struct {
	VolumeID   uuid.UUID `json:"volumeID"`
	Place      string    `json:"place"` // device, path or claim in the document
	Generation int       `json:"generation"`
}

func (b Brick) nodeState() nodeState { return nodeState{b.VolumeID, b.Place, b.Generation} }

// withState runs work in the state directory, if there is one.
func (b Brick) withState(work func(root *os.Root) error) error {
	if b.State == "" {
		return nil
	}
	root, err := os.OpenRoot(b.State)
	if err != nil {
		return fmt.Errorf("open the node's record of the brick: %w", err)
	}
	defer root.Close()
	return work(root)
}

// checkMayBeNew verifies that a missing brick was never created on this node, or that the
// document asks for a new one: by a higher generation, or at another place.
func (b Brick) checkMayBeNew() error { return b.withState(b.checkNotRemembered) }

func (b Brick) checkNotRemembered(root *os.Root) error {
	text, err := root.ReadFile(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var m nodeState
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return fmt.Errorf("read the node's record of the brick, %s/%s: %w", b.State, stateFile, err)
	}
	if m.VolumeID != b.VolumeID || m.Place != b.Place || m.Generation < b.Generation {
		return nil
	}
	return fmt.Errorf("%w: generation %d was created at %s; check whether the disk is absent, not mounted, or renamed. If its data is lost for good, "+
		"set generation: %d for this brick in the pool's document: a new brick is created and healed from the others of its set", ErrMissing, m.Generation, m.Place, m.Generation+1)
}

// remember records that the brick exists.
func (b Brick) remember() error { return b.withState(b.writeState) }

func (b Brick) writeState(root *os.Root) error {
	text, err := json.Marshal(b.nodeState())
	if err != nil {
		return err
	}
	if before, err := root.ReadFile(stateFile); err == nil && string(before) == string(text) {
		return nil
	}
	pending := stateFile + ".new"
	f, err := root.Create(pending)
	if err != nil {
		return fmt.Errorf("write the node's record of the brick: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the node's record of the brick: %w", err)
	}
	if err := root.Rename(pending, stateFile); err != nil {
		return fmt.Errorf("write the node's record of the brick: %w", err)
	}
	return sync(root, ".")
}
