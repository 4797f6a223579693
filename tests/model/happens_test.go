package model

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// step does a step, unless it is not possible now.
func (w *world) step(step string) (done bool, err error) {
	kind, i, err := parse(step)
	if err != nil {
		return false, err
	}
	possible := len(w.away) == 0
	switch kind {
	case "write":
		return true, w.write()
	case "back":
		return !possible, w.back()
	case "revert":
		possible = possible && len(w.former[i]) > 0
	case "restore":
		possible = possible && w.copies[i] != "" && w.starts[i] > 0 && w.copied[i] == w.at[i]
	}
	if !possible {
		return false, nil // the plan warns: one brick of a set at a time, and only when it is healed
	}
	switch kind {
	case "kill":
		return true, w.takeAway(i, "killed", w.c.Kill(pod(i), "glusterfsd"))
	case "power":
		return true, w.takeAway(i, "off", w.c.Delete(pod(i)))
	case "cut":
		return true, w.takeAway(i, "cut", w.c.Connect(pod(i), false))
	}
	if err := w.healed(); err != nil {
		return true, err
	}
	switch kind {
	case "blackout":
		return true, w.blackout(i)
	case "move":
		w.spare++
		return true, w.replace(i, place{fmt.Sprintf("kube%d", w.spare), "/srv/b"})
	case "lose":
		w.spare++
		return true, w.lose(i, place{fmt.Sprintf("kube%d", w.spare), "/srv/b"})
	case "renew":
		w.spare++
		return true, w.replace(i, place{w.at[i].node, fmt.Sprintf("/srv/b%d", w.spare)})
	case "revert":
		return true, w.revert(i)
	case "copy":
		return true, w.copy(i)
	case "restore":
		return true, w.restore(i)
	}
	return false, fmt.Errorf("no such step: %q", step)
}

// takeAway notes that a brick was taken away. The others go on without it.
func (w *world) takeAway(i int, how string, err error) error {
	w.away[i] = how
	return err
}

// back brings back what is away.
func (w *world) back() error {
	for i, how := range w.away {
		delete(w.away, i)
		var err error
		switch how {
		case "cut":
			err = errors.Join(w.c.Connect(pod(i), true), w.until("the client is connected again",
				func() bool { return bricks.Connected(w.mount) == bricksOfSet }))
		case "killed":
			err = errors.Join(w.c.Delete(pod(i)), w.run(i))
		default:
			err = w.run(i)
		}
		if err != nil {
			return fmt.Errorf("bring brick %d back: %w", i, err)
		}
	}
	return nil
}

// blackout ends all pods at once. They start again, one of them when the others are ready.
func (w *world) blackout(last int) error {
	var errs []error
	for i := range w.at {
		errs = append(errs, w.c.Delete(pod(i)))
	}
	started := make(chan error)
	for i := range w.at {
		if i != last {
			go func() { started <- w.run(i) }()
		}
	}
	for range bricksOfSet - 1 {
		errs = append(errs, <-started)
	}
	return errors.Join(append(errs, w.run(last))...)
}

// replace makes the document name another place for a brick, which is empty.
func (w *world) replace(i int, to place) error {
	if err := os.MkdirAll(w.c.NodePath(to.node, to.path), 0o755); err != nil {
		return fmt.Errorf("%w: %w", errSetUp, err)
	}
	return errors.Join(w.c.Delete(pod(i)), w.become(i, to))
}

// become makes the document name another place for a brick, and starts it there.
func (w *world) become(i int, to place) error {
	w.former[i] = append(w.former[i], w.at[i])
	w.at[i], w.starts[i] = to, 0
	return errors.Join(w.apply(), w.run(i))
}

// lose is replace while the former pod runs on: it was deleted by force, because its node does not
// reach the API server any more. When the new brick serves, the former one has ended.
func (w *world) lose(i int, to place) error {
	if err := os.MkdirAll(w.c.NodePath(to.node, to.path), 0o755); err != nil {
		return fmt.Errorf("%w: %w", errSetUp, err)
	}
	former, err := w.c.Lose(pod(i))
	if err != nil {
		return err
	}
	if err := w.become(i, to); err != nil {
		return err
	}
	if !former.Ended("glusterfsd") {
		return fmt.Errorf("brick %d serves at two places", i)
	}
	return nil
}

// revert takes the last replacement of a brick back. The former brick is refused; writes go on
// without it. The document then names the newer one again.
func (w *world) revert(i int) error {
	newer, starts := w.at[i], w.starts[i]
	if err := w.c.Delete(pod(i)); err != nil {
		return err
	}
	w.at[i] = w.former[i][len(w.former[i])-1]
	if err := w.apply(); err != nil {
		return err
	}
	if err := w.refused(i, "another brick has replaced this one"); err != nil {
		return err
	}
	w.at[i], w.starts[i] = newer, starts
	return errors.Join(w.apply(), w.run(i))
}

// refused starts a brick that must not start, writes meanwhile, and ends its pod.
func (w *world) refused(i int, reason string) error {
	if err := w.run(i); err == nil || !strings.Contains(err.Error(), reason) {
		return fmt.Errorf("brick %d is not refused: %w", i, errors.Join(err, errors.New(reason)))
	}
	return errors.Join(w.write(), w.c.Delete(pod(i)))
}

// copy copies the disk of a brick while its pod is stopped.
func (w *world) copy(i int) error {
	if err := w.c.Stop(pod(i)); err != nil {
		return err
	}
	w.spare++
	w.copies[i], w.copied[i], w.starts[i] = fmt.Sprintf("%s.copy%d", w.disk(i), w.spare), w.at[i], 0
	err := copyTree(w.disk(i), w.copies[i])
	w.starts[i] = -1 // this start is of the brick that was copied
	return errors.Join(err, w.run(i))
}

// restore puts an earlier copy of a disk in its place: the brick is refused. The disk itself is
// then put back.
func (w *world) restore(i int) error {
	if err := w.c.Delete(pod(i)); err != nil {
		return err
	}
	disk := w.disk(i)
	if err := errors.Join(os.Rename(disk, disk+".newer"), copyTree(w.copies[i], disk)); err != nil {
		return err
	}
	if err := w.refused(i, "this brick is an earlier copy"); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(disk), os.Rename(disk+".newer", disk)); err != nil {
		return fmt.Errorf("%w: %w", errSetUp, err)
	}
	return w.run(i)
}
