package main

import (
	"archive/tar"
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

// gitTimeout is how long git may take for one question.
const gitTimeout = time.Minute

// checkout writes a git revision of the repository that path is in to a temporary
// folder, all of it, because a kustomization refers to what is beside it. It
// returns the place of the path there, "" when the revision has no such path.
func checkout(ctx context.Context, revision, path string) (place string, remove func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
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
	where, err := git(ctx, dir, "rev-parse", "--show-cdup", "--show-prefix")
	if err != nil {
		return "", nil, fmt.Errorf("finding the top of the repository of %s: %w", path, err)
	}
	up, prefix, _ := strings.Cut(where, "\n") // such as ../ and pools/
	folder, err := os.MkdirTemp("", "atoll-plan-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(folder) }
	if err := archive(ctx, filepath.Join(dir, up), commit, folder); err != nil {
		remove()
		return "", nil, fmt.Errorf("reading revision %q: %w", revision, err)
	}
	place = filepath.Join(folder, prefix, base)
	if _, err := os.Lstat(place); err != nil {
		place = ""
	}
	return place, remove, nil
}

// git answers one question, without the line's end.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return "", errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimRight(string(out), "\n"), err
}

// archive unpacks a commit while git writes it.
func archive(ctx context.Context, dir, commit, folder string) error {
	cmd := exec.CommandContext(ctx, "git", "-C", dir, "archive", "--format=tar", commit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = unpack(out, folder)
	_, rest := io.Copy(io.Discard, out) // git must not wait for a reader
	return errors.Join(err, rest, cmd.Wait())
}

// unpack writes the archive's folders and files below folder, never outside.
func unpack(r io.Reader, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for tree := tar.NewReader(r); ; {
		header, err := tree.Next()
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
			err = unpackFile(root, name, tree)
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
