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

// Built maps the names of a Dockerfile's stages to their images.
type Built map[string]Image

// Image is a configuration and its layers, the lowest first.
type Image struct {
	config settings
	layers []layer
}

// builder runs the stages of one Dockerfile.
type builder struct {
	context, cache string
	roots          map[string]string // root directories of stages on debian
	images         Built
}

// Build runs the Dockerfile in contextDir. Stages on debian are cached under the digest of
// their text. They are directories for later stages to copy from, not images.
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
	b := &builder{context: contextDir, cache: cache, roots: map[string]string{}, images: Built{}}
	for _, s := range stages {
		if err := b.build(ctx, s); err != nil {
			return nil, fmt.Errorf("building stage %s of the Dockerfile: %w", s.name, err)
		}
	}
	return b.images, nil
}

func (b *builder) build(ctx context.Context, s stage) error {
	if release, ok := strings.CutPrefix(s.from, "debian:"); ok {
		return b.buildRoot(ctx, s, strings.TrimSuffix(release, "-slim"))
	}
	image, known := b.images[s.from]
	if s.from != "scratch" && !known {
		return fmt.Errorf("FROM %s is neither debian, scratch nor an earlier stage", s.from)
	}
	image.layers = append([]layer(nil), image.layers...)
	for _, step := range s.steps {
		switch step.word {
		case "COPY":
			l, err := b.copyLayer(step)
			if err != nil {
				return err
			}
			image.layers = append(image.layers, l)
		case "ARG": // TARGETARCH, which COPY replaces
		case "RUN":
			return fmt.Errorf("line %d: RUN in an image without a shell", step.line)
		default:
			if err := image.config.apply(step); err != nil {
				return err
			}
		}
	}
	b.images[s.name] = image
	return nil
}

// copyLayer builds the layer of COPY [--from=STAGE] SOURCE TARGET.
func (b *builder) copyLayer(s step) (layer, error) {
	f := strings.Fields(strings.ReplaceAll(s.rest, "${TARGETARCH}", runtime.GOARCH))
	from := b.context
	if stage, ok := strings.CutPrefix(f[0], "--from="); ok {
		if from = b.roots[stage]; from == "" {
			return layer{}, fmt.Errorf("line %d: no stage %s on debian", s.line, stage)
		}
		f = f[1:]
	}
	if len(f) != 2 {
		return layer{}, fmt.Errorf("line %d: want COPY <source> <target>", s.line)
	}
	return newLayer(b.cache, filepath.Join(from, f[0]), f[1])
}

// buildRoot creates the stage's root directory: a minimal Debian in which it runs each RUN.
func (b *builder) buildRoot(ctx context.Context, s stage, release string) error {
	sum := sha256.New()
	fmt.Fprintln(sum, s.from, runtime.GOARCH)
	for _, step := range s.steps {
		fmt.Fprintln(sum, step.word, step.rest)
	}
	dir := filepath.Join(b.cache, s.name+"-"+hex.EncodeToString(sum.Sum(nil))[:12])
	b.roots[s.name] = dir
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
			return fmt.Errorf("line %d: %s in a stage on debian: only RUN is supported", step.line, step.word)
		}
		if err := run(ctx, "chroot", part, "/bin/sh", "-c", step.rest); err != nil {
			return fmt.Errorf("line %d: %w", step.line, err)
		}
	}
	return os.Rename(part, dir)
}

// run runs a command; its error has the end of the output.
func run(ctx context.Context, command ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command[0], err, out[max(0, len(out)-2000):])
	}
	return nil
}
