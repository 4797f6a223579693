package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// gitLimit is how long git may take for one question.
const gitLimit = time.Minute

// checkout writes path as it is in a git revision into a temporary folder and
// returns the place of the path in it, "" when the revision has no such path.
func checkout(ctx context.Context, revision, path string) (place string, remove func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, gitLimit)
	defer cancel()
	dir, base := path, "."
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		dir, base = filepath.Dir(path), filepath.Base(path)
	}
	if strings.HasPrefix(revision, "-") {
		return "", nil, fmt.Errorf("%q is not a revision", revision)
	}
	commit, err := git(ctx, dir, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return "", nil, fmt.Errorf("finding revision %q: %w; fetch it first (CI checkouts are often shallow)", revision, err)
	}
	id := strings.TrimSpace(string(commit))
	listed, err := git(ctx, dir, "ls-tree", "-r", "--name-only", id, "--", base)
	if err != nil {
		return "", nil, fmt.Errorf("listing %s in revision %q: %w", path, revision, err)
	}
	if len(listed) == 0 {
		return "", func() {}, nil
	}
	archive, err := git(ctx, dir, "archive", "--format=tar", id, "--", base)
	if err != nil {
		return "", nil, fmt.Errorf("reading %s in revision %q: %w", path, revision, err)
	}
	folder, err := os.MkdirTemp("", "atoll-plan-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(folder) }
	if err := unpack(bytes.NewReader(archive), folder); err != nil {
		remove()
		return "", nil, fmt.Errorf("reading %s in revision %q: %w", path, revision, err)
	}
	return filepath.Join(folder, base), remove, nil
}

func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return nil, errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// unpack writes the archive's folders and files below folder, never outside.
func unpack(r io.Reader, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeReg:
			err = unpackFile(root, name, archive)
		case tar.TypeSymlink:
			err = root.Symlink(header.Linkname, name)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
