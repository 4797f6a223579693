package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Adoption describes existing data on a pool that becomes a volume.
type Adoption struct {
	Name    string
	Size    int64 // bytes; 0 uses the size that the Kadalu operator has recorded
	Reclaim schema.Reclaim
}

// ErrSize reports that the size of an adopted volume is not known.
var ErrSize = errors.New("the size of the volume is not known; pass it")

// Adopt makes the directory at the volume's path a volume, with its content: the Kadalu
// operator used the same paths. ErrExists if it is a volume already.
func (s Subdirectory) Adopt(a Adoption) (Volume, error) {
	if !volumeid.IsPart(a.Name) {
		return Volume{}, fmt.Errorf("%w: %q cannot be a volume's name", ErrNotFound, a.Name)
	}
	d, err := s.Root.Dir(s.Place(a.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return Volume{}, fmt.Errorf("%w: directory %s does not exist; move the data there first", ErrNotFound,
			s.Place(a.Name))
	}
	if err != nil {
		return Volume{}, err
	}
	defer d.Close()
	if a.Size == 0 {
		a.Size = kadaluSize(s.Root, s.Place(a.Name))
	}
	return a.record(d, s.Now)
}

// Adopt makes the whole pool a volume, with its content.
func (s Single) Adopt(a Adoption) (Volume, error) {
	if !volumeid.IsPart(a.Name) || volumeid.Name(a.Name) != a.Name {
		return Volume{}, fmt.Errorf("%w: %q cannot be a volume's name", ErrNotFound, a.Name)
	}
	return a.record(s.Root, s.Now)
}

func (a Adoption) record(d *safepath.Dir, now clock) (Volume, error) {
	if a.Size <= 0 {
		return Volume{}, ErrSize
	}
	r := CreateRequest{Request: a.Name, Name: a.Name, Size: a.Size, Reclaim: a.Reclaim}.record(now.now())
	err := r.create(d)
	if errors.Is(err, fs.ErrExist) {
		return Volume{}, fmt.Errorf("%w: %s already has a record", ErrExists, a.Name)
	}
	return r.volume(a.Name), err
}

// kadaluSize is the size that the Kadalu operator has recorded for a volume, in bytes; 0 when
// it has not.
func kadaluSize(root *safepath.Dir, dir string) int64 {
	const limit = 4096 // bytes; it writes less than a hundred
	text, err := root.ReadFile("info/"+dir+".json", limit)
	if err != nil {
		return 0
	}
	var info struct{ Size int64 }
	if json.Unmarshal(text, &info) != nil {
		return 0
	}
	return info.Size
}
