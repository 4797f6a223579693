package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// document is the file of the demo's pool.
const document = "examples/pools/replica3.yaml"

// diskSize of each brick, in bytes; the files behind them are sparse.
const diskSize = 1 << 30

// files maps names to checksums.
type files map[string][32]byte

func (s *show) vet() (string, error) {
	out, err := s.atoll("vet", "examples")
	return strings.TrimSpace(out), err
}

func (s *show) explain() (string, error) {
	out, err := s.atoll("explain", document)
	fmt.Print(indent(out))
	return "", err
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
}

// render renders twice: with the command, and with the library, whose objects start
// the pods. Both must have the same bytes.
func (s *show) render() (string, error) {
	text, err := s.atoll("render", document)
	if err != nil {
		return "", err
	}
	loaded, err := loader.Load(s.ctx, loader.Options{}, document)
	if err != nil {
		return "", err
	}
	objects, err := render.Render(loaded.Documents[0].Pool, render.Options{})
	if err != nil {
		return "", err
	}
	same, err := render.YAML(objects)
	if err != nil || string(same) != text {
		return "", errors.Join(err, errors.New("the command and the library render different bytes"))
	}
	s.cluster, err = podrun.New(filepath.Join(s.dir, "cluster"), s.bin(), objects)
	return fmt.Sprintf("%d objects, %d bytes", len(objects), len(text)), err
}

func (s *show) disks() (string, error) {
	loaded, err := loader.Load(s.ctx, loader.Options{}, document)
	if err != nil {
		return "", err
	}
	var all []string
	for _, b := range loaded.Documents[0].Pool.Spec.Bricks {
		loop, err := s.cluster.AddDevice(b.Node, b.Device, diskSize)
		if err != nil {
			return "", err
		}
		all = append(all, b.Node+" "+loop)
	}
	return strings.Join(all, ", "), nil
}

func (s *show) pods() (string, error) {
	if err := s.cluster.StartAll(s.ctx, s.cluster.Pods()...); err != nil {
		return "", err
	}
	return strings.Join(s.cluster.Pods(), ", "), nil
}

func (s *show) mount() (string, error) {
	var err error
	s.volume, err = s.cluster.Mount(s.ctx, catalog.KeyFiles)
	return s.volume, err
}

func (s *show) write() (string, error) {
	s.written = files{}
	return s.fill("first", 200, 64<<20)
}

// fill writes small files and a large one, and records their checksums.
func (s *show) fill(prefix string, small, large int) (string, error) {
	random := rand.NewChaCha8(sha256.Sum256([]byte(prefix)))
	for i := range small + 1 {
		text := make([]byte, 4<<10)
		if i == small {
			text = make([]byte, large)
		}
		_, _ = random.Read(text) // never fails
		name := fmt.Sprintf("%s-%03d", prefix, i)
		if err := os.WriteFile(filepath.Join(s.volume, name), text, 0o600); err != nil {
			return "", err
		}
		s.written[name] = sha256.Sum256(text)
	}
	return fmt.Sprintf("%d files of 4 KiB and one of %d MiB", small, large>>20), nil
}

// verify reads every file back.
func (s *show) verify() (string, error) {
	for name, sum := range s.written {
		text, err := os.ReadFile(filepath.Join(s.volume, name))
		if err != nil {
			return "", err
		}
		if sha256.Sum256(text) != sum {
			return "", fmt.Errorf("%s differs from what was written", name)
		}
	}
	return fmt.Sprintf("%d files read, all as written", len(s.written)), nil
}

func (s *show) kill() (string, error) {
	return "2 of 3 bricks left", s.cluster.Kill("atoll-fast-1-0", "glusterfsd")
}

func (s *show) degraded() (string, error) {
	read, err := s.verify()
	if err != nil {
		return "", err
	}
	wrote, err := s.fill("while-brick-1-was-down", 100, 16<<20)
	return read + "; wrote " + wrote, err
}

func (s *show) heal() (string, error) {
	pending := bricks.PendingOn(s.brick(0))
	if err := s.cluster.StartContainer(s.ctx, "atoll-fast-1-0", "glusterfsd"); err != nil {
		return "", err
	}
	if err := s.until(func() bool {
		return bricks.PendingOn(s.brick(0)) == 0 &&
			bricks.PendingOn(s.brick(2)) == 0
	}); err != nil {
		return "", fmt.Errorf("waiting for the pending heals to reach 0: %w", err)
	}
	for name, sum := range s.written {
		text, err := os.ReadFile(filepath.Join(s.brick(1), name))
		if err != nil || sha256.Sum256(text) != sum {
			return "", fmt.Errorf("brick 1 has not healed %s: %w", name, errors.Join(err))
		}
	}
	return fmt.Sprintf("pending heals %d -> 0, brick 1 has every byte", pending), nil
}

// brick returns the path of a brick's directory on its node.
func (s *show) brick(index int) string {
	node := fmt.Sprintf("kube%d", index+1)
	return s.cluster.NodePath(node, fmt.Sprintf("/var/lib/atoll/bricks/atoll-system.fast.%d/data/brick", index))
}

func (s *show) proof() (string, error) {
	if err := s.until(func() bool { return bricks.Connected(s.volume) == 3 }); err != nil {
		return "", fmt.Errorf("waiting for the client to reconnect to brick 1: %w", err)
	}
	if err := s.cluster.Kill("atoll-fast-0-0", "glusterfsd"); err != nil {
		return "", err
	}
	return s.verify()
}

// until polls until ok returns true, and prints the pending heals every two seconds.
func (s *show) until(ok func() bool) error {
	printed := time.Now()
	for !ok() {
		if time.Since(printed) > 2*time.Second {
			printed = time.Now()
			fmt.Printf("    ... %d heals pending\n", bricks.PendingOn(s.brick(0)))
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}
