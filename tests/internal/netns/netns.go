// Package netns makes networks of namespaces for tests: hosts with an address each, which can
// be cut off.
package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Network is a bridge in a namespace of its own, with a namespace for each pod.
// Nothing of it can be reached from the machine or the other way round.
type Network struct {
	prefix     string
	namespaces []string
}

// namespaceFolder is where ip-netns(8) keeps namespaces.
const namespaceFolder = "/run/netns"

// New makes the bridge. Close it.
func New() (*Network, error) {
	n := &Network{prefix: "atoll" + strconv.Itoa(os.Getpid()) + "x" + strconv.FormatInt(time.Now().UnixNano()%100000, 36)}
	hub := n.name(0)
	if err := ip("netns", "add", hub); err != nil {
		return nil, err
	}
	n.namespaces = append(n.namespaces, hub)
	for _, args := range [][]string{
		{"-n", hub, "link", "add", "br0", "type", "bridge"},
		{"-n", hub, "link", "set", "br0", "up"},
	} {
		if err := ip(args...); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

func (n *Network) name(i int) string { return n.prefix + "-" + strconv.Itoa(i) }

// Add makes one more namespace on the bridge and gives its address and its path.
func (n *Network) Add() (address, path string, err error) {
	i := len(n.namespaces)
	hub, name := n.name(0), n.name(i)
	if err := ip("netns", "add", name); err != nil {
		return "", "", err
	}
	n.namespaces = append(n.namespaces, name)
	address = fmt.Sprintf("10.93.0.%d", i)
	port := "p" + strconv.Itoa(i)
	for _, args := range [][]string{
		{"-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name},
		{"-n", hub, "link", "set", port, "master", "br0", "up"},
		{"-n", name, "addr", "add", address + "/24", "dev", "eth0"},
		{"-n", name, "link", "set", "eth0", "up"},
		{"-n", name, "link", "set", "lo", "up"},
	} {
		if err := ip(args...); err != nil {
			return "", "", err
		}
	}
	return address, filepath.Join(namespaceFolder, name), nil
}

// Connect sets the bridge's end of a namespace's link up or down.
func (n *Network) Connect(namespace string, up bool) error {
	i := slices.Index(n.namespaces, filepath.Base(namespace))
	if i < 0 {
		return fmt.Errorf("there is no namespace %s", namespace)
	}
	state := "down"
	if up {
		state = "up"
	}
	return ip("-n", n.name(0), "link", "set", "p"+strconv.Itoa(i), state)
}

// Close removes all namespaces.
func (n *Network) Close() error {
	var errs []error
	for _, name := range n.namespaces {
		errs = append(errs, ip("netns", "del", name))
	}
	n.namespaces = nil
	return errors.Join(errs...)
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// In runs f on a thread that is in a network namespace; the thread ends
// with it.
func In(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		done <- func() error {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("opening the namespace: %w", err)
			}
			defer unix.Close(fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("entering the namespace: %w", err)
			}
			return f()
		}()
	}()
	return <-done
}
