package images

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// layer is an uncompressed tar file.
type layer struct{ file, digest string }

// newLayer creates a layer with source, a file or a directory's contents, as target.
func newLayer(cache, source, target string) (layer, error) {
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return layer{}, err
	}
	f, err := os.CreateTemp(cache, "layer-")
	if err != nil {
		return layer{}, err
	}
	defer os.Remove(f.Name()) // fails once it is renamed to its digest
	defer f.Close()
	sum := sha256.New()
	w := tar.NewWriter(io.MultiWriter(f, sum))
	if err := addTree(w, source, target); err != nil {
		return layer{}, fmt.Errorf("layer of %s: %w", source, err)
	}
	if err := w.Close(); err != nil {
		return layer{}, err
	}
	l := layer{digest: hex.EncodeToString(sum.Sum(nil))}
	l.file = filepath.Join(cache, "layer-"+l.digest+".tar")
	return l, os.Rename(f.Name(), l.file)
}

func addTree(w *tar.Writer, source, target string) error {
	return filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Join(target, rel), "/")
		if name == "" || name == "." {
			return nil
		}
		return addFile(w, p, name)
	})
}

// addFile writes one entry with the file's mode but without owner and time, so that equal
// files yield equal layers.
func addFile(w *tar.Writer, p, name string) error {
	info, err := os.Lstat(p)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h = &tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: link, Size: h.Size, Mode: h.Mode}
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Write writes the archive in the format of 'docker save', which ctr imports: a manifest, and
// a configuration and layers for each image. References are those that pods use. It removes
// layers in the archive's directory that no image uses.
func Write(file string, byReference map[string]Image) error {
	f, err := os.Create(file + ".part")
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	type entry struct {
		Config           string
		RepoTags, Layers []string
	}
	var manifest []entry
	written := map[string]bool{}
	for ref, image := range byReference {
		e := entry{RepoTags: []string{ref}}
		var digests []string
		for _, l := range image.layers {
			digests = append(digests, "sha256:"+l.digest)
			e.Layers = append(e.Layers, l.digest+".tar")
			if written[l.digest] {
				continue
			}
			written[l.digest] = true
			if err := addFile(w, l.file, l.digest+".tar"); err != nil {
				return err
			}
		}
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux", "config": image.config,
			"rootfs": map[string]any{"type": "layers", "diff_ids": digests},
		})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(config)
		e.Config = hex.EncodeToString(sum[:]) + ".json"
		if !written[e.Config] {
			written[e.Config] = true
			if err := addBytes(w, e.Config, config); err != nil {
				return err
			}
		}
		manifest = append(manifest, e)
	}
	list, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := addBytes(w, "manifest.json", list); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := os.Rename(file+".part", file); err != nil {
		return err
	}
	return prune(filepath.Dir(file), written)
}

// prune removes the layers that were not written.
func prune(dir string, written map[string]bool) error {
	all, err := filepath.Glob(filepath.Join(dir, "layer-*.tar"))
	if err != nil {
		return err
	}
	for _, l := range all {
		digest := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(l), "layer-"), ".tar")
		if written[digest] {
			continue
		}
		if err := os.Remove(l); err != nil {
			return err
		}
	}
	return nil
}

func addBytes(w *tar.Writer, name string, content []byte) error {
	if err := w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: 0o644,
		Size: int64(len(content)),
	}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// Program returns an image of one statically linked program, such as a sidecar.
func Program(cache, program, target string) (Image, error) {
	l, err := newLayer(cache, program, target)
	if err != nil {
		return Image{}, err
	}
	return Image{
		config: settings{Entrypoint: []string{target}, Env: []string{"PATH=/usr/bin:/usr/sbin:/bin:/sbin"}},
		layers: []layer{l},
	}, nil
}

// Busybox returns an image with the commands of /bin/busybox, whose default command is the
// shell.
func Busybox(cache string) (Image, error) {
	root, err := os.MkdirTemp(cache, "busybox-")
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(root)
	for _, d := range []string{"bin", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return Image{}, err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|fs.ModeSticky); err != nil {
		return Image{}, err
	}
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return Image{}, fmt.Errorf("busybox-static is not installed, run make deps: %w", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), program, 0o755); err != nil {
		return Image{}, err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/:/bin/sh\n"),
		0o644); err != nil {
		return Image{}, err
	}
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return Image{}, fmt.Errorf("busybox --list: %w", err)
	}
	for _, a := range strings.Fields(string(list)) {
		if a == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			return Image{}, err
		}
	}
	l, err := newLayer(cache, root, "/")
	if err != nil {
		return Image{}, err
	}
	return Image{config: settings{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}, layers: []layer{l}}, nil
}

// WithFile returns the image with one more file.
func (i Image) WithFile(cache, file, target string) (Image, error) {
	l, err := newLayer(cache, file, target)
	if err != nil {
		return Image{}, err
	}
	i.layers = append(append([]layer(nil), i.layers...), l)
	return i, nil
}

// WithHostProgram returns the image with a program of this host and the libraries that it links.
func (i Image) WithHostProgram(cache, program string) (Image, error) {
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return Image{}, fmt.Errorf("ldd %s: %w", program, err)
	}
	for _, f := range append(strings.Fields(string(out)), program) {
		if !filepath.IsAbs(f) {
			continue
		}
		file, err := filepath.EvalSymlinks(f)
		if err != nil {
			return Image{}, err
		}
		if i, err = i.WithFile(cache, file, f); err != nil {
			return Image{}, err
		}
	}
	return i, nil
}

// WithEntrypoint returns the image with another entrypoint, and no default arguments.
func (i Image) WithEntrypoint(entrypoint ...string) Image {
	i.config.Entrypoint, i.config.Cmd = entrypoint, nil
	return i
}
