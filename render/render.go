// Package render turns a pool into the Kubernetes objects that serve it. It is
// pure: the same pool and options give the same objects, byte for byte, on every
// machine.
package render

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
)

// Object is a Kubernetes object with its kind filled in.
type Object interface {
	metav1.Object
	runtime.Object
}

// Options are what the objects need to know of the cluster. Empty fields have
// defaults.
type Options struct {
	Namespace     string // of pools that name none; default schema.DefaultNamespace
	ClusterDomain string // default cluster.local
	Images        Images
}

// Images are the container images of the brick pods.
type Images struct {
	Brick   string // prepare; default DefaultBrickImage
	Gluster string // glusterfsd and self-heal; default DefaultGlusterImage
}

// Default images, without a registry: a kustomization or the flags name it.
const (
	DefaultBrickImage   = "atoll-brick:v0"
	DefaultGlusterImage = "atoll-gluster:10.3"
)

// AgentPort is the TCP port of the agent beside every brick, and AgentKeys the Secret, in
// the pool's namespace, with the keys by which it knows the driver.
const (
	AgentPort = 24010
	AgentKeys = "atoll-agent-keys"
)

// VolfilesPort is the TCP port on which a brick pod's daemons, and nobody else, get their
// volfiles; VolfilesHealthPort tells that they do.
const (
	VolfilesPort       = 24011
	VolfilesHealthPort = 24012
)

// BrickName is the name of the StatefulSet of a brick, by its index, or ta for the
// tiebreaker. Its pod has the same name with -0.
func BrickName(pool, index string) string { return "atoll-" + pool + "-" + index }

// RebalanceName is the name of the Deployment that moves the files of a pool.
func RebalanceName(pool string) string { return "atoll-" + pool + "-rebalance" }

// RebalancePort is the TCP port on which the pod that moves files tells how far it is.
const RebalancePort = 24013

// BrickPort is the TCP port of every brick; each has an address of its own.
const BrickPort = 24007

// maxConfigMap is the most that Kubernetes takes as data of a ConfigMap, in bytes.
const maxConfigMap = 1 << 20

// Render returns the objects of a pool in the order in which they are applied:
// ConfigMaps, Service, PodDisruptionBudgets, StatefulSets, a Deployment for pools of
// several sets, StorageClasses. The pool must be one that loader.Load found valid.
func Render(p *schema.Pool, o Options) ([]Object, error) {
	b, err := newBuilder(p, o)
	if err != nil {
		return nil, fmt.Errorf("rendering pool %s: %w", p.Metadata.Name, err)
	}
	for _, step := range []func() error{b.configMaps, b.service, b.disruptionBudgets, b.workloads, b.rebalance, b.storageClasses} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("rendering pool %s: %w", p.Metadata.Name, err)
		}
	}
	return b.objects, nil
}

// namespaceID is the name space of volume IDs: the UUIDv5 of the API group as a
// DNS name (RFC 4122, 4.3).
var namespaceID = uuid.NewSHA1(uuid.NameSpaceDNS, []byte("atoll.storage"))

// VolumeID is the pool's volume ID: the one in the document, or the UUIDv5 of
// namespace/name, so that every machine derives the same.
func VolumeID(p *schema.Pool, defaultNamespace string) string {
	if p.Spec.VolumeID != "" {
		return p.Spec.VolumeID
	}
	return uuid.NewSHA1(namespaceID, []byte(p.NamespaceOr(defaultNamespace)+"/"+p.Metadata.Name)).String()
}

// builder carries one rendering.
type builder struct {
	pool      *schema.Pool
	name      string // of the pool
	namespace string
	options   Options
	volume    volfile.Pool // native pools
	bricksMap map[string]string
	objects   []Object
}

func newBuilder(p *schema.Pool, o Options) (*builder, error) {
	o.ClusterDomain = cmp.Or(o.ClusterDomain, "cluster.local")
	o.Images.Brick = cmp.Or(o.Images.Brick, DefaultBrickImage)
	o.Images.Gluster = cmp.Or(o.Images.Gluster, DefaultGlusterImage)
	b := &builder{
		pool: p, name: p.Metadata.Name, options: o,
		namespace: p.NamespaceOr(o.Namespace),
	}
	if b.name == "" {
		return nil, fmt.Errorf("the pool has no name")
	}
	if b.native() {
		b.volume = b.volumeOf()
	}
	return b, nil
}

func (b *builder) native() bool { return b.pool.Spec.Type != schema.External }

// volumeOf gives the pool to the volfile builders: every brick under its full
// name, which does not depend on a resolver's search list.
func (b *builder) volumeOf() volfile.Pool {
	s := &b.pool.Spec
	v := volfile.Pool{Name: b.name, VolumeID: VolumeID(b.pool, b.namespace), Type: s.Type, Options: s.Options}
	for i := range s.Bricks {
		v.Bricks = append(v.Bricks, volfile.Endpoint{Host: b.host(strconv.Itoa(i)), Port: BrickPort, Directory: b.directory()})
	}
	for set, size := 0, s.SetSize(); size > 0 && (set+1)*size <= len(s.Bricks); set++ {
		if s.Bricks[set*size].Decommissioned {
			v.Leaving = append(v.Leaving, set)
		}
	}
	if s.Disperse != nil {
		v.Data, v.Redundancy = s.Disperse.Data, s.Disperse.Redundancy
	}
	if t := s.Tiebreaker; t != nil {
		v.Tiebreaker = &volfile.Endpoint{Host: b.host(tiebreakerSuffix), Port: BrickPort, Directory: b.directory()}
		if t.Host != "" {
			v.Tiebreaker = &volfile.Endpoint{Host: t.Host, Port: cmp.Or(t.Port, BrickPort), Directory: t.Path}
		}
	}
	return v
}

// tiebreakerSuffix stands where a brick's index would.
const tiebreakerSuffix = "ta"

// service is the name of the headless Service and the stem of all other names.
func (b *builder) serviceName() string { return "atoll-" + b.name }

// workload is the name of a brick's StatefulSet.
func (b *builder) workload(suffix string) string { return BrickName(b.name, suffix) }

// host is the full DNS name of a brick's pod.
func (b *builder) host(suffix string) string {
	return b.workload(suffix) + "-0." + b.serviceName() + "." + b.namespace + ".svc." + b.options.ClusterDomain
}

// mountpoint is where a brick's place is mounted in its pod, and directory the
// brick's folder in it, as it was for the Kadalu operator.
func (b *builder) mountpoint() string { return "/bricks/" + b.name + "/data" }
func (b *builder) directory() string  { return b.mountpoint() + "/brick" }

// Labels of the objects.
const (
	LabelPool  = catalog.LabelPool
	LabelBrick = "atoll.storage/brick" // index, or ta for the tiebreaker
	LabelSet   = "atoll.storage/set"
	// LabelNamespace is on objects without a namespace: that of the pool.
	LabelNamespace = "atoll.storage/namespace"
	// LabelRebalance is on the pod that moves a pool's files. It has no LabelPool: that
	// pod is no brick.
	LabelRebalance = "atoll.storage/rebalance"
)

func (b *builder) labels(more ...string) map[string]string {
	l := map[string]string{
		"app.kubernetes.io/name":       "atoll",
		"app.kubernetes.io/managed-by": "atoll",
		"app.kubernetes.io/instance":   b.name,
		LabelPool:                      b.name,
	}
	for i := 0; i+1 < len(more); i += 2 {
		l[more[i]] = more[i+1]
	}
	return l
}

func (b *builder) meta(name string, labels ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: b.namespace, Labels: b.labels(labels...)}
}

// keep has tools that apply rendered objects leave those in the cluster that bricks and
// volumes depend on, though they are rendered no more: Flux and Argo CD would delete them
// when a document goes from git.
var keep = map[string]string{
	"kustomize.toolkit.fluxcd.io/prune": "disabled",
	"argocd.argoproj.io/sync-options":   "Prune=false",
}

// kept is meta for such objects.
func (b *builder) kept(name string, labels ...string) metav1.ObjectMeta {
	m := b.meta(name, labels...)
	m.Annotations = maps.Clone(keep)
	return m
}

func (b *builder) add(o Object) { b.objects = append(b.objects, o) }
