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

// gitTimeout bounds all git commands of one checkout.
const gitTimeout = time.Minute

// checkout writes a git revision of the repository of path to a temporary directory.
// It writes the whole tree, because a kustomization refers to its neighbours. It
// returns the location of path there, "" when the revision does not have it.
func checkout(ctx context.Context, revision, path string) (location string, remove func(), err error) {
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
		return "", nil, fmt.Errorf("find revision %q: %w; fetch it first (CI checkouts are often shallow)",
			revision, err)
	}
	paths, err := git(ctx, dir, "rev-parse", "--show-cdup", "--show-prefix")
	if err != nil {
		return "", nil, fmt.Errorf("find the repository of %s: %w", path, err)
	}
	up, prefix, _ := strings.Cut(paths, "\n") // such as ../ and pools/
	target, err := os.MkdirTemp("", "atoll-plan-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(target) }
	if err := extract(ctx, filepath.Join(dir, up), commit, target); err != nil {
		remove()
		return "", nil, fmt.Errorf("read revision %q: %w", revision, err)
	}
	location = filepath.Join(target, prefix, base)
	if _, err := os.Lstat(location); err != nil {
		location = ""
	}
	return location, remove, nil
}

// git returns the output of a git command, without the final newline.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return "", errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimRight(string(out), "\n"), err
}

// extract unpacks the tree of a commit while git writes it.
func extract(ctx context.Context, dir, commit, target string) error {
	cmd := exec.CommandContext(ctx, "git", "-C", dir, "archive", "--format=tar", commit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = unpack(out, target)
	_, rest := io.Copy(io.Discard, out) // drain, so that git does not block
	return errors.Join(err, rest, cmd.Wait())
}

// unpack writes the entries of a tar archive below target, and never outside of it.
func unpack(r io.Reader, target string) error {
	root, err := os.OpenRoot(target)
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
