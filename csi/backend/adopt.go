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

// Adoption is data that is on a pool already and is to become a volume.
type Adoption struct {
	Name    string
	Size    int64 // bytes; 0 is what the Kadalu operator has noted
	Reclaim schema.Reclaim
}

// ErrSize says that nobody knows how large a volume is to be.
var ErrSize = errors.New("the size of the volume is not known; give it")

// Adopt makes a volume of the folder that is at the volume's place, with all that is
// in it: the Kadalu operator had the same places. ErrExists if it is one already.
func (s Subdirectory) Adopt(a Adoption) (Volume, error) {
	if !volumeid.IsPart(a.Name) {
		return Volume{}, fmt.Errorf("%w: %q cannot be a volume's name", ErrNotFound, a.Name)
	}
	d, err := s.Root.Dir(s.Folder(a.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return Volume{}, fmt.Errorf("%w: there is no folder %s; move the data there first", ErrNotFound, s.Folder(a.Name))
	}
	if err != nil {
		return Volume{}, err
	}
	defer d.Close()
	if a.Size == 0 {
		a.Size = noted(s.Root, s.Folder(a.Name))
	}
	return a.record(d, s.Now)
}

// Adopt makes the whole pool a volume, with all that is in it.
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
		return Volume{}, fmt.Errorf("%w: %s has a record already", ErrExists, a.Name)
	}
	return r.volume(a.Name), err
}

// noted is the size that the Kadalu operator has written beside a volume, in bytes;
// 0 when it has not.
func noted(root *safepath.Dir, folder string) int64 {
	const limit = 4096 // bytes; it writes less than a hundred
	text, err := root.ReadFile("info/"+folder+".json", limit)
	if err != nil {
		return 0
	}
	var info struct{ Size int64 }
	if json.Unmarshal(text, &info) != nil {
		return 0
	}
	return info.Size
}
