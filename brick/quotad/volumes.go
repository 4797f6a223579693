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
	parts                       int64 // how many bricks share a volume's data
	arbiter                     bool  // of a volume with arbiters
}

// maxFile is the longest line of glusterd's files that is read, in bytes.
const maxFile = 1 << 20

// localBricks reads glusterd's files (10.3: glusterd.info, vols/NAME/info and
// vols/NAME/bricks/HOST:PATH, lines of key=value) and returns the bricks of this host that
// belong to the volumes, or to any volume if none is named. Stopped volumes are left out.
func localBricks(workdir string, volumes []string) ([]brick, error) {
	root, err := os.OpenRoot(workdir)
	if err != nil {
		return nil,
			fmt.Errorf("read glusterd's files: %w; check that glusterd is installed on this host, and the path of its working directory", err)
	}
	defer root.Close()
	self, err := readKeyValues(root, "glusterd.info")
	if err != nil {
		return nil, err
	}
	if self["UUID"] == "" {
		return nil, fmt.Errorf("read glusterd's files: %s/glusterd.info has no UUID", workdir)
	}
	entries, err := fs.ReadDir(root.FS(), "vols")
	if err != nil {
		return nil, fmt.Errorf("list glusterd's volumes: %w", err)
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
			errs = append(errs, fmt.Errorf("volume %s: glusterd has no volume of this name", name))
		}
	}
	return all, errors.Join(errs...)
}

// started is the status of a started volume (glusterd_volume_status).
const started = "1"

func bricksOf(root *os.Root, volume, self string) ([]brick, error) {
	dir := path.Join("vols", volume)
	info, err := readKeyValues(root, dir+"/info")
	if err != nil || info["status"] != started {
		return nil, err
	}
	number := func(key string) int64 {
		n, _ := strconv.ParseInt(info[key], 10, 64) // 0 if absent
		return n
	}
	parts := int64(1)
	if n := number("disperse_count"); n > 0 {
		parts = n - number("redundancy_count")
	}
	if parts < 1 {
		return nil, fmt.Errorf("read its info: %d bricks with redundancy %d", number("disperse_count"),
			number("redundancy_count"))
	}
	entries, err := fs.ReadDir(root.FS(), dir+"/bricks")
	if err != nil {
		return nil, fmt.Errorf("list its bricks: %w", err)
	}
	var all []brick
	for _, e := range entries {
		b, err := readKeyValues(root, dir+"/bricks/"+e.Name())
		if err != nil {
			return all, err
		}
		if b["uuid"] != self {
			continue
		}
		if !path.IsAbs(b["path"]) {
			return all, fmt.Errorf("its brick %s has path %q, which is not absolute", e.Name(), b["path"])
		}
		_, position, _ := strings.Cut(b["brick-id"], "-client-")
		all = append(all, brick{volume, position, path.Clean(b["path"]), parts, number("arbiter_count") > 0})
	}
	return all, nil
}

// readKeyValues reads a file with lines of key=value.
func readKeyValues(root *os.Root, name string) (map[string]string, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read glusterd's %s: %w", name, err)
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
		return nil, fmt.Errorf("read glusterd's %s: %w", name, err)
	}
	return values, nil
}
