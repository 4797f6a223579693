package quotad

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// brick is a brick on this host of a volume that glusterd serves.
type brick struct {
	volume, position, directory string
	parts                       int64 // among how many bricks a volume's data is split
	arbiter                     bool  // of a volume with arbiters
}

// maxFile is the longest of glusterd's files that is read, in bytes.
const maxFile = 1 << 20

// localBricks reads glusterd's own files (10.3: glusterd.info, vols/NAME/info and
// vols/NAME/bricks/HOST:PATH, lines of key=value) and gives the bricks of this host that
// belong to the volumes, or to any if none is named. Volumes that are stopped have none.
func localBricks(workdir string, volumes []string) ([]brick, error) {
	root, err := os.OpenRoot(workdir)
	if err != nil {
		return nil, fmt.Errorf("reading glusterd's files: %w; is glusterd installed on this host, and is its folder another one?", err)
	}
	defer root.Close()
	self, err := pairs(root, "glusterd.info")
	if err != nil {
		return nil, err
	}
	if self["UUID"] == "" {
		return nil, fmt.Errorf("%s/glusterd.info tells no UUID of this host", workdir)
	}
	entries, err := fs.ReadDir(root.FS(), "vols")
	if err != nil {
		return nil, fmt.Errorf("reading glusterd's volumes: %w", err)
	}
	var all []brick
	var errs []error
	for _, e := range entries {
		if len(volumes) > 0 && !slices.Contains(volumes, e.Name()) {
			continue
		}
		found, err := bricksOf(root, e.Name(), self["UUID"])
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", e.Name(), err))
		}
		all = append(all, found...)
	}
	for _, name := range volumes {
		if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name }) {
			errs = append(errs, fmt.Errorf("volume %s: glusterd has none of this name", name))
		}
	}
	return all, errors.Join(errs...)
}

// started is the status of a volume that runs (glusterd_volume_status).
const started = "1"

func bricksOf(root *os.Root, volume, self string) ([]brick, error) {
	dir := path.Join("vols", volume)
	info, err := pairs(root, dir+"/info")
	if err != nil || info["status"] != started {
		return nil, err
	}
	number := func(key string) int64 {
		n, _ := strconv.ParseInt(info[key], 10, 64) // absent is 0
		return n
	}
	parts := int64(1)
	if n := number("disperse_count"); n > 0 {
		parts = n - number("redundancy_count")
	}
	if parts < 1 {
		return nil, fmt.Errorf("its info tells of %d bricks, %d of them for redundancy", number("disperse_count"), number("redundancy_count"))
	}
	entries, err := fs.ReadDir(root.FS(), dir+"/bricks")
	if err != nil {
		return nil, fmt.Errorf("reading its bricks: %w", err)
	}
	var all []brick
	for _, e := range entries {
		b, err := pairs(root, dir+"/bricks/"+e.Name())
		if err != nil {
			return all, err
		}
		if b["uuid"] != self {
			continue
		}
		if !path.IsAbs(b["path"]) {
			return all, fmt.Errorf("its brick %s has the path %q", e.Name(), b["path"])
		}
		_, position, _ := strings.Cut(b["brick-id"], "-client-")
		all = append(all, brick{volume, position, path.Clean(b["path"]), parts, number("arbiter_count") > 0})
	}
	return all, nil
}

// pairs reads a file of lines of key=value.
func pairs(root *os.Root, name string) (map[string]string, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading glusterd's %s: %w", name, err)
	}
	defer f.Close()
	values := map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxFile)
	for lines.Scan() {
		if key, value, is := strings.Cut(lines.Text(), "="); is {
			values[key] = value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading glusterd's %s: %w", name, err)
	}
	return values, nil
}
