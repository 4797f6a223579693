package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atoll-storage/atoll/tests/internal/cluster/machine"
)

// NodeRoot returns the path on this host of node n's root, including the node's mounts.
func (c *Cluster) NodeRoot(n int) (string, error) {
	pid, err := machine.Find("node", func(raw json.RawMessage) bool {
		var s nodeSpec
		return json.Unmarshal(raw, &s) == nil && s.Node == n && s.Dir == c.Dir
	})
	if err != nil {
		return "", fmt.Errorf("node %s: %w", NodeName(n), err)
	}
	return fmt.Sprintf("/proc/%d/root", pid), nil
}

// Processes returns the PIDs, on this host, of a node's processes that run a program of this name with
// all these arguments.
func (c *Cluster) Processes(n int, program string, arguments ...string) ([]int, error) {
	root, err := c.NodeRoot(n)
	if err != nil {
		return nil, err
	}
	node, err := os.Readlink(filepath.Join(filepath.Dir(root), "ns/pid_for_children"))
	if err != nil {
		return nil, err
	}
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		command := strings.Split(string(text), "\x00")
		if filepath.Base(command[0]) != program || !hasAll(command, arguments) ||
			!inNamespace(filepath.Dir(path), node) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		found = append(found, pid)
	}
	return found, nil
}

func hasAll(have, words []string) bool {
	for _, w := range words {
		found := false
		for _, h := range have {
			found = found || h == w || filepath.Base(h) == w
		}
		if !found {
			return false
		}
	}
	return true
}

// inNamespace reports whether a process or one of its ancestors is in a PID namespace.
func inNamespace(proc, namespace string) bool {
	for range 20 { // more ancestors than any container's process has
		if ns, err := os.Readlink(filepath.Join(proc, "ns/pid")); err == nil && ns == namespace {
			return true
		}
		status, err := os.ReadFile(filepath.Join(proc, "status"))
		if err != nil {
			return false
		}
		_, rest, _ := strings.Cut(string(status), "\nPPid:\t")
		parent, _, _ := strings.Cut(rest, "\n")
		if parent == "" || parent == "0" {
			return false
		}
		proc = filepath.Join("/proc", parent)
	}
	return false
}
