package loader

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/atoll-storage/atoll/schema"
)

// path reads one argument of Load: "-", a file or a directory.
func (l *load) path(p string) error {
	if p == "-" {
		return l.standardInput()
	}
	info, err := os.Stat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read %s: no such file or directory", p)
	case err != nil:
		l.unreadable(p, err)
	case info.IsDir():
		l.directory(filepath.Clean(p), 0)
	default:
		l.file(filepath.Clean(p), true)
	}
	return nil
}

func (l *load) standardInput() error {
	if l.stdin == nil {
		return errors.New("read standard input: not available here; name files instead of -")
	}
	from := origin{file: "stdin"}
	data, err := readLimited(l.stdin)
	if err != nil {
		l.unreadable(from.file, err)
		return nil
	}
	l.yamlFile(data, from)
	return nil
}

// directory reads all files below a directory, sorted by name. A directory with a
// kustomization is built instead, and below it only further kustomizations are read.
func (l *load) directory(dir string, depth int) {
	if l.ctx.Err() != nil || l.alreadyRead(dir) {
		return
	}
	if depth > maxDirs {
		l.fileError(schema.Position{File: dir}, "limit", fmt.Sprintf("directories are nested deeper than %d", maxDirs),
			"name the directories that have pools")
		return
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		l.unreadable(dir, err)
		return
	}
	built := l.kustomization(dir, entries)
	var cueFiles []string
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		info, err := os.Stat(p) // follows symbolic links
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case err != nil && (!built || errors.Is(err, syscall.ELOOP)):
			l.unreadable(p, err)
		case err != nil:
		case info.IsDir():
			if !skipped(e.Name(), entries) && (!built || hasKustomization(p)) {
				l.directory(p, depth+1)
			}
		case built || !info.Mode().IsRegular():
		case filepath.Ext(p) == ".cue":
			cueFiles = append(cueFiles, p)
		default:
			l.file(p, false)
		}
	}
	l.cuePackages(cueFiles)
}

// skipped reports whether a directory is not read: the templates of Helm charts, which are
// not YAML, and the directory of CUE's modules.
func skipped(name string, siblings []os.DirEntry) bool {
	if name == "cue.mod" {
		return true
	}
	return name == "templates" && slices.ContainsFunc(siblings,
		func(e os.DirEntry) bool { return e.Name() == "Chart.yaml" })
}

// alreadyRead reports whether a file or directory was read before, under any name, and
// records it as read.
func (l *load) alreadyRead(p string) bool {
	real, err := filepath.EvalSymlinks(p)
	if err == nil {
		if real, err = filepath.Abs(real); err == nil {
			p = real
		}
	}
	if l.seen[p] {
		return true
	}
	l.seen[p] = true
	return false
}

// file reads one file. Files with an unknown extension are skipped, unless the caller named
// them: then they are read as YAML.
func (l *load) file(p string, named bool) {
	var parse func([]byte, origin)
	switch ext := strings.ToLower(filepath.Ext(p)); ext {
	case ".yaml", ".yml":
		parse = l.yamlFile
	case ".json":
		parse = l.jsonFile
	case ".cue":
		parse = func(data []byte, from origin) { l.cueFiles(map[string][]byte{from.file: data}) }
	default:
		if !named {
			return
		}
		parse = l.yamlFile
	}
	if l.ctx.Err() != nil || l.alreadyRead(p) {
		return
	}
	if data, ok := l.open(p); ok {
		parse(data, origin{file: p})
	}
}

// open reads a file and reports an error if it cannot.
func (l *load) open(p string) ([]byte, bool) {
	data, err := readFile(p)
	if err != nil {
		l.unreadable(p, err)
	}
	return data, err == nil
}

// errTooLarge is returned for a file above the limit.
var errTooLarge = fmt.Errorf("larger than %d MiB", maxFileSize>>20)

// readFile reads a regular file within the limit.
func readFile(p string) ([]byte, error) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("not a regular file"))
	}
	return readLimited(f)
}

func readLimited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFileSize+1))
	if err == nil && len(data) > maxFileSize {
		return nil, errTooLarge
	}
	return data, err
}

func (l *load) unreadable(p string, err error) {
	if errors.Is(err, errTooLarge) {
		l.fileError(schema.Position{File: p}, "limit", "cannot be read: "+err.Error(), "split it or exclude it")
		return
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	l.fileError(schema.Position{File: p}, "unreadable", "cannot be read: "+err.Error(),
		"check that it exists and is readable")
}
