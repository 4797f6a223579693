// Package cluster boots a Kubernetes cluster on one machine without Docker: etcd, the API
// server, controller manager and scheduler, CoreDNS, and nodes with containerd, kubelet and
// kube-proxy. Each node has processes, mounts, network, folders and disks of its own. All
// of it hangs on one process: when that ends, so does everything else.
package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
)

// Spec is what a cluster's machines are told.
type Spec struct {
	// Dir is the cluster's folder; its path may have some 60 characters at most, for there
	// are sockets in it.
	Dir string
	// Programs is the folder with kube-apiserver and the others.
	Programs string
	// Nodes is how many there are: n1, n2, ...
	Nodes int
	// Disks are those of each node, of DiskSize bytes, as /dev/disk/by-id/disk-1, ...
	Disks    int
	DiskSize int64
	// Archive has the images that every node gets.
	Archive string
	// External are volumes of a GlusterFS cluster beside Kubernetes, at GlusterAddress.
	External []string
	// Watched clusters end with the process that has made them.
	Watched bool
}

// Addresses: the control plane is host 1 of the nodes' network, node n is host 10+n and has
// the pods of 10.244.n.0/24. They exist in the cluster's own network namespaces only.
const (
	// GlusterAddress is where a glusterd of its own runs when there are external volumes.
	GlusterAddress = "10.77.0.5"

	controlPlane   = "10.77.0.1"
	podNetwork     = "10.244.0.0/16"
	serviceNetwork = "10.96.0.0/16"
	serviceAddress = "10.96.0.1"
	dnsAddress     = "10.96.0.10"
	securePort     = 6443
	pause          = "registry.k8s.io/pause:3.10.2"
)

func nodeAddress(n int) string { return fmt.Sprintf("10.77.0.%d", 10+n) }
func podRange(n int) string    { return fmt.Sprintf("10.244.%d.0/24", n) }

// NodeName is the name of node n, from 1.
func NodeName(n int) string { return fmt.Sprintf("n%d", n) }

func (s Spec) path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

func (s Spec) pki(name string) string { return s.path("pki", name) }

// NodeDir is where the folders of node n are: kubelet, containerd, atoll, srv and more.
func (s Spec) NodeDir(n int) string { return s.path("nodes", NodeName(n)) }

func (s Spec) program(name string) string { return filepath.Join(s.Programs, name) }

// controlSocket takes orders for the cluster's processes.
func (s Spec) controlSocket() string { return s.path("control") }

// cgroup has the containers of all nodes, in each of cgroup v1's hierarchies.
func (s Spec) cgroup() string {
	sum := sha256.Sum256([]byte(s.Dir))
	return "atoll-" + hex.EncodeToString(sum[:4])
}

// nodeSpec is what a node is told.
type nodeSpec struct {
	Spec
	Node  int
	Disks []string // devices
}
