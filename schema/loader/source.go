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

// path takes one argument: "-", a file or a folder.
func (l *load) path(p string) error {
	if p == "-" {
		return l.standardInput()
	}
	info, err := os.Stat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file or folder %s", p)
	case err != nil:
		l.unreadable(p, err)
	case info.IsDir():
		l.folder(filepath.Clean(p), 0)
	default:
		l.file(filepath.Clean(p), true)
	}
	return nil
}

func (l *load) standardInput() error {
	if l.stdin == nil {
		return errors.New("there is no standard input to read")
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

// folder takes all files below a folder, in the order of their names. A folder
// with a kustomization is built instead, and so are kustomizations below it.
func (l *load) folder(dir string, depth int) {
	if l.ctx.Err() != nil || l.again(dir) {
		return
	}
	if depth > maxFolders {
		l.fileError(schema.Position{File: dir}, "limit", fmt.Sprintf("folders are nested deeper than %d", maxFolders), "name the folders that have pools")
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
				l.folder(p, depth+1)
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

// skipped leaves out the templates of Helm charts, which are no YAML, and the
// folder of CUE's own modules.
func skipped(name string, siblings []os.DirEntry) bool {
	if name == "cue.mod" {
		return true
	}
	return name == "templates" && slices.ContainsFunc(siblings, func(e os.DirEntry) bool { return e.Name() == "Chart.yaml" })
}

// again reports whether a file or folder was read before, by whatever name.
func (l *load) again(p string) bool {
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

// file takes one file. One that was named must have a known ending; in a folder
// others are passed over.
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
	if l.ctx.Err() != nil || l.again(p) {
		return
	}
	if data, ok := l.open(p); ok {
		parse(data, origin{file: p})
	}
}

// open reads a file, or reports why it cannot.
func (l *load) open(p string) ([]byte, bool) {
	data, err := readFile(p)
	if err != nil {
		l.unreadable(p, err)
	}
	return data, err == nil
}

// errTooLarge says that a file is beyond the limit.
var errTooLarge = fmt.Errorf("it is larger than %d MiB", maxFileSize>>20)

// readFile reads a regular file within the limit.
func readFile(p string) ([]byte, error) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is not a regular file"))
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
		l.fileError(schema.Position{File: p}, "limit", "cannot be read: "+err.Error(), "split it, or leave it out")
		return
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	l.fileError(schema.Position{File: p}, "unreadable", "cannot be read: "+err.Error(), "check that it exists and who may read it")
}
