package cluster

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/cluster/machine"
)

// plugLimit is how long a machine waits for its network interface.
const plugLimit = 10 * time.Second

// setUpNetwork configures a machine's interface, with routes to the pods of all nodes.
func (s Spec) setUpNetwork(address string) error {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := net.InterfaceByName("eth0"); err == nil {
			break
		} else if time.Since(start) > plugLimit {
			return fmt.Errorf("waiting for eth0: %w", err)
		}
	}
	commands := [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "addr", "add", address + "/24", "dev", "eth0"},
		{"ip", "link", "set", "eth0", "up"},
		{"ip", "route", "add", "default", "via", controlPlane},
	}
	for n := 1; n <= s.Nodes; n++ {
		if nodeAddress(n) != address {
			commands = append(commands, []string{"ip", "route", "add", podRange(n), "via", nodeAddress(n)})
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return err
	}
	return machine.RunCommands(commands...)
}

// plug creates a machine's network interface. That of its previous boot, if it still exists,
// is deleted first.
func plug(name string, pid int) error {
	link := "to-" + name
	_ = exec.Command("ip", "link", "del", link).Run() // fails if it does not exist
	return machine.RunCommands(
		[]string{"ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(pid)},
		[]string{"ip", "link", "set", link, "master", "nodes", "up"},
	)
}
