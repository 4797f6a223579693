// Package netns makes networks of namespaces for tests: hosts that have an address each and can
// be cut off.
package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Network is a bridge in its own namespace, and a namespace for each host on it. There is no
// route between the network and the machine.
type Network struct {
	prefix     string
	namespaces []string
}

// namespaceDir is where ip-netns(8) mounts namespaces.
const namespaceDir = "/run/netns"

// made counts the networks of this process.
var made atomic.Int64

// New makes the bridge. The caller closes the network.
func New() (*Network, error) {
	n := &Network{prefix: fmt.Sprintf("atoll%dx%d", os.Getpid(), made.Add(1))}
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

// Add makes another namespace on the bridge and returns its address and its path.
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
	return address, filepath.Join(namespaceDir, name), nil
}

// Connect sets the bridge's end of a namespace's link up or down.
func (n *Network) Connect(namespace string, up bool) error {
	i := slices.Index(n.namespaces, filepath.Base(namespace))
	if i < 0 {
		return fmt.Errorf("no namespace %s", namespace)
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

// In calls f on a thread that is in a network namespace. The thread ends with the call.
func In(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: Go ends the thread
		done <- func() error {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open the namespace: %w", err)
			}
			defer unix.Close(fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the namespace: %w", err)
			}
			return f()
		}()
	}()
	return <-done
}

// Get reads a page over HTTP from inside a network namespace.
func Get(namespace, url string) (string, error) {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (conn net.Conn, err error) {
			err = In(namespace, func() error {
				conn, err = net.DialTimeout(network, address, 10*time.Second)
				return err
			})
			return conn, err
		},
	}}
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s: %s", url, answer.Status, text)
	}
	return string(text), err
}
