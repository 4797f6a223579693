package backend

import (
	"errors"
	"strconv"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// RecordedSets returns how many sets have the records of all volumes; 0 when SetRecordedSets was never
// called. Directories that GlusterFS creates on an added set have no trusted xattrs: a brick
// there does not know the volumes, and enforces no quota.
func RecordedSets(root *safepath.Dir) (int, error) {
	text, err := root.Attribute(ondisk.SpreadAttribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return 0, nil // SetRecordedSets replaces it
	}
	return n, nil
}

// SetRecordedSets records that Rewrite has written the records of all volumes on this many sets.
func SetRecordedSets(root *safepath.Dir, sets int) error {
	return root.SetAttribute(ondisk.SpreadAttribute, []byte(strconv.Itoa(sets)))
}
