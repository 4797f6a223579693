package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// workload is a pod that writes to a volume and keeps a ledger on its node, and a pod on
// another node that reads the volume.
type workload struct {
	*env
	name   string
	pool   string // of its volume, where a test needs it
	writer int    // node
}

// result is the result of 'ledger check' (tests/e2e/ledger).
type result struct {
	Writes, Whole, Missing int
	Lost                   []string
	Longest                int64
	Errors                 map[string]int
}

// startWorkload starts a workload on a new volume of a class, and waits until it writes.
func (e *env) startWorkload(name, class string, writer, reader int) *workload {
	e.Helper()
	w := &workload{env: e, name: name, writer: writer}
	if err := os.Remove(w.ledger()); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a former volume
		e.Fatal(err)
	}
	e.apply(claim(name, class, "64Mi", "ReadWriteMany") +
		// A container that dies with its node is restarted, and continues its ledger.
		strings.ReplaceAll(pod(name, name, podOptions{
			node:    fmt.Sprintf("n%d", writer),
			command: fmt.Sprintf(`[ledger, write, /data, /ledger/%s]`, name),
		}),
			"restartPolicy: Never", "restartPolicy: Always") +
		strings.ReplaceAll(pod(name+"-reader", name, podOptions{node: fmt.Sprintf("n%d", reader)}),
			"restartPolicy: Never", "restartPolicy: Always"))
	e.waitRunning(name, name+"-reader")
	w.waitProgress(20)
	return w
}

// ledger is the file of the writer, on this host.
func (w *workload) ledger() string {
	return filepath.Join(w.NodeDir(w.writer), "srv/ledger", w.name)
}

// waitProgress waits until more writes were acknowledged.
func (w *workload) waitProgress(more int) {
	w.Helper()
	count := func() int {
		text, err := os.ReadFile(w.ledger())
		if err != nil {
			return 0
		}
		return strings.Count(string(text), `"Micros"`)
	}
	start := count()
	w.eventually(limit, fmt.Sprintf("%s has written %d more times", w.name, more), func() error {
		if now := count(); now < start+more {
			return fmt.Errorf("it has %d, and had %d", now, start)
		}
		return nil
	})
}

// check stops the writer and reads every byte that it wrote on the other node.
func (w *workload) check() result {
	w.Helper()
	w.kubectl("delete", "pod", w.name)
	r := w.readBy(w.name + "-reader")
	if r.Missing > 0 {
		w.Errorf("%s: %d of %d writes are lost: %s", w.name, r.Missing, r.Writes, strings.Join(r.Lost, "; "))
	}
	if r.Writes == 0 {
		w.Errorf("%s has written nothing", w.name)
	}
	w.finish(w.name, w.name+"-reader")
	return r
}

// readBy compares a pod's volume with the ledger, byte by byte.
func (w *workload) readBy(pod string) result {
	w.Helper()
	text, err := os.ReadFile(w.ledger())
	if err != nil {
		w.Fatal(err)
	}
	out, err := w.tryKubectl(string(text), "exec", "-i", pod, "--", "ledger", "check", "/data")
	if err != nil {
		w.Fatal(err)
	}
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		w.Fatalf("%v in %q", err, out)
	}
	return r
}

// waitHealthy waits until a pool is Ready and Healed.
func (e *env) waitHealthy(pool string) {
	e.Helper()
	e.eventually(2*limit, pool+" is healthy", func() error {
		out, err := e.tryKubectl("", "get", "storagepool", "-n", "atoll-system", pool, "-o",
			"jsonpath={.status.conditions}")
		if err != nil {
			return err
		}
		var conditions []struct{ Type, Status, Message string }
		if err := json.Unmarshal([]byte(out), &conditions); err != nil {
			return err
		}
		for _, want := range []string{"Ready", "Healed"} {
			i := slices.IndexFunc(conditions,
				func(c struct{ Type, Status, Message string }) bool { return c.Type == want })
			if i < 0 || conditions[i].Status != "True" {
				return fmt.Errorf("%s is not true: %s", want, out)
			}
		}
		return nil
	})
}

// errorsText lists the errors that the application saw, for the table of docs/reliability.md.
func (r result) errorsText() string {
	if len(r.Errors) == 0 {
		return "none"
	}
	var all []string
	for e, n := range r.Errors {
		all = append(all, fmt.Sprintf("%d × %s", n, e))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// stall is the duration of the longest write.
func (r result) stall() time.Duration { return time.Duration(r.Longest) * time.Millisecond }

// ledgerOf reads a file that a pod has written on its node.
func (e *env) ledgerOf(name string, node int) string {
	e.Helper()
	text, err := os.ReadFile(filepath.Join(e.NodeDir(node), "srv/ledger", name))
	if err != nil {
		e.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
