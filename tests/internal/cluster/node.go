package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/tests/internal/cluster/machine"
)

// nodeDirs maps names in a node's directory to the paths that the node keeps when it is
// stopped and restarted.
var nodeDirs = map[string]string{
	"kubelet":    "/var/lib/kubelet",
	"containerd": "/var/lib/containerd",
	"atoll":      "/var/lib/atoll",
	"cni":        "/var/lib/cni",
	"log":        "/var/log",
	"srv":        "/srv",
	"kadalu":     "/var/lib/kadalu", // the path in Kadalu's documents
}

func runNode(raw json.RawMessage) error {
	var s nodeSpec
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	name := NodeName(s.Node)
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	if err := s.mountRoot(); err != nil {
		return err
	}
	if err := s.writeFiles(); err != nil {
		return err
	}
	if err := s.setUpNetwork(nodeAddress(s.Node)); err != nil {
		return err
	}
	p := &machine.Processes{Log: s.path("log")}
	if err := p.AddCommand(name+"-containerd", "containerd", "--config",
		"/etc/atoll-node/containerd.toml"); err != nil {
		return err
	}
	if err := s.loadImages(); err != nil {
		return err
	}
	if err := p.AddCommand(name+"-kubelet", s.program("kubelet"), "--config", "/etc/atoll-node/kubelet.yaml",
		"--kubeconfig", s.pki(name+".kubeconfig"), "--hostname-override", name, "--node-ip", nodeAddress(s.Node),
		"--node-labels", "topology.kubernetes.io/zone=z"+name[1:]); err != nil {
		return err
	}
	if err := p.AddCommand(name+"-kube-proxy", s.program("kube-proxy"), "--config", "/etc/atoll-node/kube-proxy.yaml",
		"--hostname-override", name); err != nil {
		return err
	}
	select {}
}

func (s nodeSpec) mountRoot() error {
	dir := s.NodeDir(s.Node)
	binds := []machine.Bind{
		{From: s.Dir, To: s.Dir},
		{From: s.Programs, To: s.Programs},
		{From: filepath.Dir(s.Archive), To: filepath.Dir(s.Archive)},
	}
	for name, to := range nodeDirs {
		binds = append(binds, machine.Bind{From: filepath.Join(dir, name), To: to})
	}
	if err := machine.Root(filepath.Join(dir, "root"), binds); err != nil {
		return err
	}
	// /dev/disk is private to the node. The rest of /dev is shared by all nodes.
	if err := os.MkdirAll("/dev/disk", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("disks", "/dev/disk", "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := os.Mkdir("/dev/disk/by-id", 0o755); err != nil {
		return err
	}
	for i, d := range s.Disks {
		if err := os.Symlink("../../"+filepath.Base(d), fmt.Sprintf("/dev/disk/by-id/disk-%d", i+1)); err != nil {
			return err
		}
	}
	return nil
}

func (s nodeSpec) writeFiles() error {
	name := NodeName(s.Node)
	for path, text := range map[string]string{
		"/etc/hostname":                   name + "\n",
		"/etc/machine-id":                 fmt.Sprintf("%032x\n", s.Node),
		"/etc/hosts":                      "127.0.0.1 localhost\n" + nodeAddress(s.Node) + " " + name + "\n",
		"/etc/resolv.conf":                "nameserver " + dnsAddress + "\n",
		"/etc/atoll-node/containerd.toml": containerdConfig,
		"/etc/atoll-node/kubelet.yaml":    s.kubeletConfig(),
		"/etc/atoll-node/kube-proxy.yaml": s.proxyConfig(),
		"/etc/cni/net.d/10-pods.conflist": s.cniConfig(),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// loadLimit is the timeout for containerd's first response.
const loadLimit = 3 * time.Minute

// loadImages imports the archive. Layers that containerd has already are not copied.
func (s nodeSpec) loadImages() error {
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		out, err := exec.Command("ctr", "version").CombinedOutput()
		if err == nil {
			break
		}
		if time.Since(start) > loadLimit {
			return fmt.Errorf("containerd does not respond: %w: %s", err, out)
		}
	}
	return machine.RunCommands([]string{"ctr", "-n", "k8s.io", "images", "import", s.Archive})
}
