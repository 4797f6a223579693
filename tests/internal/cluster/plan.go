// Package cluster boots a Kubernetes cluster on one machine without Docker: etcd, the API
// server, controller manager and scheduler, CoreDNS, and nodes with containerd, kubelet and
// kube-proxy. Each node has separate processes, mounts, network, directories and disks. They
// all depend on one process: when it ends, so does everything else.
package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
)

// Spec is the specification of a cluster, which all its machines get.
type Spec struct {
	// Dir is the cluster's directory. Its path may have about 60 characters at most, because
	// it has sockets.
	Dir string
	// Programs is the directory with kube-apiserver and the other programs.
	Programs string
	// Nodes is the number of nodes: n1, n2, ...
	Nodes int
	// Disks is the number of disks of each node, of DiskSize bytes: /dev/disk/by-id/disk-1, ...
	Disks    int
	DiskSize int64
	// Archive is the file with the images that every node imports.
	Archive string
	// External lists volumes of a GlusterFS cluster outside Kubernetes, at GlusterAddress.
	External []string
	// Watched clusters end with the process that started them.
	Watched bool
}

// Addresses: the control plane is host 1 of the nodes' network, node n is host 10+n, and its
// pods are in 10.244.n.0/24. They exist in the cluster's network namespaces only.
const (
	// GlusterAddress is the address of the glusterd that serves the external volumes.
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

// NodeDir returns the directory of node n, with kubelet, containerd, atoll, srv and more.
func (s Spec) NodeDir(n int) string { return s.path("nodes", NodeName(n)) }

func (s Spec) program(name string) string { return filepath.Join(s.Programs, name) }

// controlSocket returns the path of the socket for requests to the cluster's processes.
func (s Spec) controlSocket() string { return s.path("control") }

// cgroup returns the name prefix of the nodes' cgroups, in each of cgroup v1's hierarchies.
func (s Spec) cgroup() string {
	sum := sha256.Sum256([]byte(s.Dir))
	return "atoll-" + hex.EncodeToString(sum[:4])
}

// nodeSpec is the specification of a node.
type nodeSpec struct {
	Spec
	Node  int
	Disks []string // devices
}
