package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Built are the images of a Dockerfile, by the names of their stages.
type Built map[string]Image

// Image is a configuration and its layers, the lowest first.
type Image struct {
	config settings
	layers []layer
}

// builder runs the stages of one Dockerfile.
type builder struct {
	context, cache string
	folders        map[string]string // of stages on an operating system
	images         Built
}

// Build runs the Dockerfile of the folder context. Stages on debian are kept in cache under
// the digest of their text; they are folders that later stages copy from, and no images.
func Build(ctx context.Context, contextDir, cache string) (Built, error) {
	text, err := os.ReadFile(filepath.Join(contextDir, "Dockerfile"))
	if err != nil {
		return nil, err
	}
	stages, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	if cache, err = filepath.Abs(cache); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	b := &builder{context: contextDir, cache: cache, folders: map[string]string{}, images: Built{}}
	for _, s := range stages {
		if err := b.stage(ctx, s); err != nil {
			return nil, fmt.Errorf("building stage %s of the Dockerfile: %w", s.name, err)
		}
	}
	return b.images, nil
}

func (b *builder) stage(ctx context.Context, s stage) error {
	if release, ok := strings.CutPrefix(s.from, "debian:"); ok {
		return b.debian(ctx, s, strings.TrimSuffix(release, "-slim"))
	}
	image, known := b.images[s.from]
	if s.from != "scratch" && !known {
		return fmt.Errorf("FROM %s is neither debian, scratch nor a stage before", s.from)
	}
	image.layers = append([]layer(nil), image.layers...)
	for _, step := range s.steps {
		switch step.word {
		case "COPY":
			l, err := b.copied(step)
			if err != nil {
				return err
			}
			image.layers = append(image.layers, l)
		case "ARG": // TARGETARCH, which copied knows
		case "RUN":
			return fmt.Errorf("line %d: RUN in an image without a shell", step.line)
		default:
			if err := image.config.set(step); err != nil {
				return err
			}
		}
	}
	b.images[s.name] = image
	return nil
}

// copied is the layer of COPY [--from=STAGE] SOURCE TARGET.
func (b *builder) copied(s step) (layer, error) {
	f := strings.Fields(strings.ReplaceAll(s.rest, "${TARGETARCH}", runtime.GOARCH))
	from := b.context
	if stage, ok := strings.CutPrefix(f[0], "--from="); ok {
		if from = b.folders[stage]; from == "" {
			return layer{}, fmt.Errorf("line %d: no stage %s on an operating system", s.line, stage)
		}
		f = f[1:]
	}
	if len(f) != 2 {
		return layer{}, fmt.Errorf("line %d: want COPY <source> <target>", s.line)
	}
	return layerOf(b.cache, filepath.Join(from, f[0]), f[1])
}

// debian makes the stage's folder: Debian's smallest, and then each RUN in it.
func (b *builder) debian(ctx context.Context, s stage, release string) error {
	sum := sha256.New()
	fmt.Fprintln(sum, s.from, runtime.GOARCH)
	for _, step := range s.steps {
		fmt.Fprintln(sum, step.word, step.rest)
	}
	dir := filepath.Join(b.cache, s.name+"-"+hex.EncodeToString(sum.Sum(nil))[:12])
	b.folders[s.name] = dir
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := run(ctx, "mmdebstrap", "--quiet", "--variant=minbase", release, part); err != nil {
		return err
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(part, "etc/resolv.conf"), resolv, 0o644); err != nil {
		return err
	}
	for _, step := range s.steps {
		if step.word != "RUN" {
			return fmt.Errorf("line %d: %s in a stage that is no image", step.line, step.word)
		}
		if err := run(ctx, "chroot", part, "/bin/sh", "-c", step.rest); err != nil {
			return fmt.Errorf("line %d: %w", step.line, err)
		}
	}
	return os.Rename(part, dir)
}

// run is a command whose output is told when it fails.
func run(ctx context.Context, command ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command[0], err, out[max(0, len(out)-2000):])
	}
	return nil
}
