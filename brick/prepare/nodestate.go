package prepare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/uuid"
)

// memoryFile is what a node remembers of a brick, in the folder that is given for it.
const memoryFile = "brick.json"

// nodeState says that a brick was made: if it is missing later, its disk is.
type nodeState struct {
	VolumeID   uuid.UUID `json:"volumeID"`
	Place      string    `json:"place"` // device or folder of the document
	Generation int       `json:"generation"`
}

func (b Brick) nodeState() nodeState { return nodeState{b.VolumeID, b.Place, b.Generation} }

// inState works in the folder of the node's memory, if there is one.
func (b Brick) inState(work func(root *os.Root) error) error {
	if b.State == "" {
		return nil
	}
	root, err := os.OpenRoot(b.State)
	if err != nil {
		return fmt.Errorf("opening the node's memory of the brick: %w", err)
	}
	defer root.Close()
	return work(root)
}

// mayBeNew holds that a brick that is not there was never made here, or is to be made
// anew: by a higher generation, or at another place.
func (b Brick) mayBeNew() error { return b.inState(b.notRemembered) }

func (b Brick) notRemembered(root *os.Root) error {
	text, err := root.ReadFile(memoryFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var m nodeState
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return fmt.Errorf("reading the node's memory of the brick, %s/%s: %w", b.State, memoryFile, err)
	}
	if m.VolumeID != b.VolumeID || m.Place != b.Place || m.Generation < b.Generation {
		return nil
	}
	return fmt.Errorf("%w: generation %d of it was made at %s; is the disk away, not mounted, or under another name? If its data is lost for good, "+
		"set generation: %d for this brick in the pool's document: a new one is made and healed from the others of its set", ErrMissing, m.Generation, m.Place, m.Generation+1)
}

// remember notes that the brick is there.
func (b Brick) remember() error { return b.inState(b.write) }

func (b Brick) write(root *os.Root) error {
	text, err := json.Marshal(b.nodeState())
	if err != nil {
		return err
	}
	if before, err := root.ReadFile(memoryFile); err == nil && string(before) == string(text) {
		return nil
	}
	pending := memoryFile + ".new"
	f, err := root.Create(pending)
	if err != nil {
		return fmt.Errorf("remembering the brick: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("remembering the brick: %w", err)
	}
	if err := root.Rename(pending, memoryFile); err != nil {
		return fmt.Errorf("remembering the brick: %w", err)
	}
	return sync(root, ".")
}
