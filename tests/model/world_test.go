package model

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
	"github.com/atoll-storage/atoll/tests/internal/programs"
)

const bricksOfSet = 3

// place is where the document has a brick.
type place struct{ node, path string }

// world is a pool of three replicas, what was done to it, and what must be in it.
type world struct {
	c        *podrun.Cluster
	volumeID string
	mount    string

	at     [bricksOfSet]place   // in the document
	former [bricksOfSet][]place // before, the last one last
	copies [bricksOfSet]string  // directory of a copy of the brick's disk, "" for none
	copied [bricksOfSet]place   // of which disk it is
	starts [bricksOfSet]int     // of the brick since it was copied
	away   map[int]string       // bricks that are away: how
	spare  int                  // the next unused node, or directory

	files   map[string][32]byte // by name
	written int
}

// errSetUp says that the machine failed, not the pool.
var errSetUp = errors.New("set up")

// limit is how long anything may take that must happen.
const limit = await.Limit

// play plays a sequence on a new pool.
func play(t *testing.T, sequence []string) (err error) {
	w := &world{
		volumeID: uuid.NewString(), away: map[int]string{}, files: map[string][32]byte{},
		spare: bricksOfSet + 1,
	}
	for i := range w.at {
		w.at[i] = place{fmt.Sprintf("kube%d", i+1), "/srv/b"}
	}
	if err := w.start(t.TempDir()); err != nil {
		return fmt.Errorf("%w: %w", errSetUp, err)
	}
	defer func() { err = errors.Join(err, w.c.Close()) }()
	for i, step := range sequence {
		begin := time.Now()
		done, err := w.step(step)
		if err != nil {
			return fmt.Errorf("step %d of [%s], %s: %w\n%s", i, strings.Join(sequence, " "), step, err, w.situation())
		}
		if done {
			t.Logf("%s %s", step, time.Since(begin).Round(time.Second/10))
		}
	}
	return w.check()
}

// situation describes the bricks and the client, for a failure.
func (w *world) situation() string {
	text := fmt.Sprintf("the client is connected to %d bricks\n", bricks.Connected(w.mount))
	for i := range w.at {
		for _, container := range []string{"join", "agent", "glusterfsd"} {
			text += fmt.Sprintf("brick %d, %s:\n%s\n", i, container, w.c.Log(pod(i), container))
		}
	}
	return text + "client:\n" + w.c.Log("client", filepath.Base(w.mount))
}

func (w *world) start(dir string) error {
	program, err := programs.Dir()
	if err != nil {
		return err
	}
	objects, err := w.objects()
	if err != nil {
		return err
	}
	if w.c, err = podrun.New(dir, program, objects); err != nil {
		return err
	}
	w.c.FreshFor, w.c.SettleFor = 2*time.Second, 5*time.Second // clients connect again within 3 s
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, p := range w.at {
		err = errors.Join(err, os.MkdirAll(w.c.NodePath(p.node, p.path), 0o755))
	}
	if err == nil {
		err = w.c.StartAll(ctx, w.c.Pods()...)
	}
	if err == nil {
		w.mount, err = w.c.Mount(ctx, catalog.KeyFiles)
	}
	if err != nil {
		return errors.Join(err, w.c.Close())
	}
	return nil
}

// objects renders the document.
func (w *world) objects() ([]render.Object, error) {
	var list []string
	for _, p := range w.at {
		list = append(list, fmt.Sprintf("{node: %s, path: %s}", p.node, p.path))
	}
	text := fmt.Sprintf(`{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast},
  spec: {type: Replica3, volumeID: %s, bricks: [%s], options: {network.ping-timeout: "5"}}}`,
		w.volumeID, strings.Join(list, ", "))
	r, err := loader.Load(context.Background(), loader.Options{Stdin: strings.NewReader(text)}, "-")
	if err != nil {
		return nil, err
	}
	if len(r.Documents) != 1 || !r.Documents[0].Valid {
		return nil, fmt.Errorf("the document is refused: %v", r.Diagnostics)
	}
	return render.Render(r.Documents[0].Pool, render.Options{})
}

// apply applies the document.
func (w *world) apply() error {
	objects, err := w.objects()
	if err != nil {
		return err
	}
	return w.c.Apply(objects)
}

func pod(i int) string { return fmt.Sprintf("atoll-fast-%d-0", i) }

// disk is the directory of a brick that the document names.
func (w *world) disk(i int) string { return w.c.NodePath(w.at[i].node, w.at[i].path) }

// run starts a brick's pod and waits until it is ready, which means that the brick is complete.
func (w *world) run(i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w.starts[i]++
	return w.c.Start(ctx, pod(i))
}

// until waits for a condition.
func (w *world) until(what string, holds func() bool) error {
	for end := time.Now().Add(limit); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("waited %s in vain until %s", limit, what)
		}
	}
	return nil
}

// healed waits until all bricks are there and nothing is pending.
func (w *world) healed() error {
	return w.until("everything is healed", func() bool {
		n := 0
		for i := range w.at {
			n += bricks.PendingOn(filepath.Join(w.disk(i), "brick"))
		}
		return n == 0 && bricks.Connected(w.mount) == bricksOfSet
	})
}

// copyTree copies a directory with all attributes.
func copyTree(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: copy %s: %w: %s", errSetUp, from, err, out)
	}
	return nil
}
