package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/tests/internal/cluster/machine"
)

// File descriptors that the control plane's machine inherits.
const (
	listenerFile = 3 // the listener that the host reaches the API server by
	watchFile    = 4 // a pipe that closes when the process that started the cluster ends
)

// kinds maps the kinds of a cluster's machines to their functions.
var kinds = map[string]machine.Run{"control-plane": runControlPlane, "node": runNode, "gluster": runGluster}

// Child must be called first by main or TestMain.
func Child() { machine.Child(kinds) }

func runControlPlane(raw json.RawMessage) error {
	var s Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	if s.Watched {
		go exitWhenClosed(os.NewFile(watchFile, "watch"))
	}
	if err := machine.RunCommands(
		[]string{"ip", "link", "set", "lo", "up"},
		[]string{"ip", "link", "add", "nodes", "type", "bridge"},
		[]string{"ip", "addr", "add", controlPlane + "/24", "dev", "nodes"},
		[]string{"ip", "link", "set", "nodes", "up"},
	); err != nil {
		return err
	}
	for n := 1; n <= s.Nodes; n++ {
		if err := machine.RunCommands([]string{"ip", "route", "add", podRange(n), "via", nodeAddress(n)}); err != nil {
			return err
		}
	}
	go forward(os.NewFile(listenerFile, "listener"))
	p := &machine.Processes{Log: s.path("log")}
	c := &controlPlaneMachine{Spec: s, Processes: p}
	for _, line := range s.controlPlaneCommands() {
		if err := p.AddCommand(line[0], line[1:]...); err != nil {
			return err
		}
	}
	for n := 1; n <= s.Nodes; n++ {
		if err := c.addNode(n); err != nil {
			return err
		}
	}
	if len(s.External) > 0 {
		if err := c.add("gluster", "gluster", s); err != nil {
			return err
		}
	}
	return p.Serve(s.controlSocket(), c.handle)
}

// exitWhenClosed ends the process, and so the machine, when the other end of a pipe is closed.
func exitWhenClosed(pipe *os.File) {
	_, _ = io.Copy(io.Discard, pipe) // an error also means that it is closed
	os.Exit(0)
}

// forward forwards connections from the host's network to the API server.
func forward(file *os.File) {
	l, err := net.FileListener(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		return
	}
	for {
		from, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "forward:", err)
			return
		}
		go func() {
			defer from.Close()
			to, err := net.DialTimeout("tcp", net.JoinHostPort(controlPlane, strconv.Itoa(securePort)), 5*time.Second)
			if err != nil {
				return
			}
			defer to.Close()
			done := make(chan struct{}, 2)
			for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					done <- struct{}{}
				}()
			}
			<-done
		}()
	}
}

// controlPlaneCommands returns the name and command line of each process.
func (s Spec) controlPlaneCommands() [][]string {
	etcd := "http://127.0.0.1:2379"
	return [][]string{
		{
			"etcd", "etcd", "--data-dir", s.path("etcd"), "--unsafe-no-fsync", "--quota-backend-bytes", "1073741824",
			"--listen-client-urls", etcd, "--advertise-client-urls", etcd,
			"--listen-peer-urls", "http://127.0.0.1:2380",
		},
		{
			"kube-apiserver", s.program("kube-apiserver"), "--etcd-servers", etcd,
			"--bind-address", "0.0.0.0", "--advertise-address", controlPlane, "--secure-port", strconv.Itoa(securePort),
			"--client-ca-file", s.pki("ca.crt"),
			"--tls-cert-file", s.pki("apiserver.crt"), "--tls-private-key-file", s.pki("apiserver.key"),
			"--kubelet-client-certificate", s.pki("admin.crt"), "--kubelet-client-key", s.pki("admin.key"),
			"--kubelet-preferred-address-types", "InternalIP",
			"--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction",
			"--allow-privileged=true",
			"--service-cluster-ip-range", serviceNetwork,
			"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file", s.pki("service-account.crt"),
			"--service-account-signing-key-file", s.pki("service-account.key"),
		},
		{
			"kube-controller-manager", s.program("kube-controller-manager"),
			"--kubeconfig", s.pki("controller-manager.kubeconfig"),
			"--leader-elect=false", "--use-service-account-credentials", "--root-ca-file", s.pki("ca.crt"),
			"--service-account-private-key-file", s.pki("service-account.key"), "--bind-address", "127.0.0.1",
			"--cluster-signing-cert-file", s.pki("ca.crt"), "--cluster-signing-key-file", s.pki("ca.key"),
		},
		{
			"kube-scheduler", s.program("kube-scheduler"), "--kubeconfig", s.pki("scheduler.kubeconfig"),
			"--leader-elect=false", "--bind-address", "127.0.0.1",
		},
		{"coredns", s.program("coredns"), "-conf", s.path("Corefile")},
	}
}

// controlPlaneMachine starts nodes and handles requests.
type controlPlaneMachine struct {
	Spec
	*machine.Processes
}

// addNode starts a node with its disks, which persist when the node is stopped and restarted.
func (c *controlPlaneMachine) addNode(n int) error {
	spec := nodeSpec{Spec: c.Spec, Node: n}
	for d := 1; d <= c.Spec.Disks; d++ {
		f, err := os.OpenFile(c.path("nodes", NodeName(n), fmt.Sprintf("disk-%d", d)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		if err := f.Truncate(c.DiskSize); err != nil {
			return err
		}
		device, err := loop.Attach(f, loop.AutoClear) // stays open until this machine ends
		if err != nil {
			return err
		}
		spec.Disks = append(spec.Disks, device.Name())
		openDisks = append(openDisks, device, f)
	}
	return c.add("node", NodeName(n), spec)
}

// add starts a machine and connects it to the nodes' network.
func (c *controlPlaneMachine) add(kind, name string, spec any) error {
	return c.Add(name, func(log *os.File) (*exec.Cmd, error) {
		// A node boots without cgroups of its previous boot: the kubelet would query a container
		// for each, and fail after three seconds.
		group := c.cgroup() + "-" + name
		if err := machine.RemoveCgroups(group); err != nil {
			return nil, err
		}
		cmd, err := machine.Start(kind, group, spec, log)
		if err != nil {
			return nil, err
		}
		if err := plug(name, cmd.Process.Pid); err != nil {
			return nil, fmt.Errorf("plugging in %s: %w", name, err)
		}
		return cmd, nil
	})
}

// openDisks has the open devices and their files, so that they are not closed.
var openDisks []*os.File

// handle handles requests other than start and stop: it unplugs and plugs in a node's network,
// and ends the cluster.
func (c *controlPlaneMachine) handle(o machine.Request) error {
	switch o.Verb {
	case "unplug":
		return machine.RunCommands([]string{"ip", "link", "set", "to-" + o.Name, "down"})
	case "plug":
		return machine.RunCommands([]string{"ip", "link", "set", "to-" + o.Name, "up"})
	case "end":
		time.AfterFunc(100*time.Millisecond, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) })
		return nil
	}
	return fmt.Errorf("unknown verb %q", o.Verb)
}
