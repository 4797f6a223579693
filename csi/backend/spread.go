package backend

import (
	"errors"
	"strconv"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// SpreadOver tells how many sets have the records of all volumes; 0 when that was never
// asked for. A folder that GlusterFS makes on a set that was added has no trusted
// attributes: a brick there would not know of volumes, and hold them to no size.
func SpreadOver(root *safepath.Dir) (int, error) {
	text, err := root.Attribute(ondisk.SpreadAttribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return 0, nil // it is written again
	}
	return n, nil
}

// SetSpread notes that Rewrite has written the records of all volumes on so many sets.
func SetSpread(root *safepath.Dir, sets int) error {
	return root.SetAttribute(ondisk.SpreadAttribute, []byte(strconv.Itoa(sets)))
}
