package model

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atoll-storage/atoll/internal/ondisk"
)

// write creates files, and overwrites, renames and deletes some. Each call must succeed: at most
// one of three bricks is away.
func (w *world) write() error {
	random := rand.New(rand.NewPCG(uint64(w.written), uint64(len(w.files))))
	for range 6 {
		w.written++
		if err := w.create(fmt.Sprintf("d%d/f%d", random.IntN(3), w.written), random); err != nil {
			return err
		}
	}
	names := slices.Sorted(maps.Keys(w.files))
	for _, name := range []string{names[random.IntN(len(names))], names[random.IntN(len(names))]} {
		if err := w.create(name, random); err != nil {
			return err
		}
	}
	from := names[random.IntN(len(names))]
	w.written++
	to := fmt.Sprintf("d%d/r%d", random.IntN(3), w.written)
	if err := os.MkdirAll(filepath.Dir(filepath.Join(w.mount, to)), 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(w.mount, from), filepath.Join(w.mount, to)); err != nil {
		return err
	}
	w.files[to] = w.files[from]
	delete(w.files, from)
	gone := slices.Sorted(maps.Keys(w.files))[random.IntN(len(w.files))]
	if err := os.Remove(filepath.Join(w.mount, gone)); err != nil {
		return err
	}
	delete(w.files, gone)
	return nil
}

// create writes a file and syncs it.
func (w *world) create(name string, random *rand.Rand) error {
	path := filepath.Join(w.mount, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	data := make([]byte, random.IntN(20000))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	w.files[name] = sha256.Sum256(data)
	return nil
}

// check brings everything back and compares the mount, and each brick, with what was written.
func (w *world) check() error {
	if err := errors.Join(w.back(), w.healed()); err != nil {
		return err
	}
	if err := w.compare("the mount", w.mount); err != nil {
		return err
	}
	var errs []error
	for i := range w.at {
		errs = append(errs, w.compare(fmt.Sprintf("brick %d", i), filepath.Join(w.disk(i), "brick")))
	}
	return errors.Join(errs...)
}

// compare compares all files below a directory with what was written.
func (w *world) compare(what, dir string) error {
	missing, problems := maps.Clone(w.files), []string(nil)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(name, ondisk.GlusterDir):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		data, err := os.ReadFile(path)
		want, known := missing[name]
		delete(missing, name)
		switch {
		case err != nil:
			problems = append(problems, err.Error())
		case !known:
			problems = append(problems, name+" was deleted and is back")
		case sha256.Sum256(data) != want:
			problems = append(problems, name+" has other content")
		}
		return nil
	})
	for name := range missing {
		problems = append(problems, name+" is lost")
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		err = errors.Join(err, fmt.Errorf("%s: %s", what, strings.Join(problems, "; ")))
	}
	return err
}
