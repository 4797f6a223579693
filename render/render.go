// Package render turns a pool into the Kubernetes objects that serve it. It is pure: the
// same pool and options yield the same objects, byte for byte, on every machine.
package render

import (
	"cmp"
	"errors"
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

// Options describe the cluster. Empty fields have defaults.
type Options struct {
	Namespace     string // for pools that name none; default schema.DefaultNamespace
	ClusterDomain string // default cluster.local
	Images        Images
}

// Images are the container images of the brick pods.
type Images struct {
	Brick   string // prepare; default DefaultBrickImage
	Gluster string // glusterfsd and self-heal; default DefaultGlusterImage
}

// Default images, without a registry: a kustomization or flags add it.
const (
	DefaultBrickImage   = "atoll-brick:v0"
	DefaultGlusterImage = "atoll-gluster:10.3"
)

// AgentPort is the TCP port of the agent beside every brick. AgentKeys is the Secret, in the
// pool's namespace, with the keys that authenticate the driver to the agent.
const (
	AgentPort = 24010
	AgentKeys = "atoll-agent-keys"
)

// VolfilesPort is the TCP port of the volfile server, which only the daemons of the brick
// pod can reach. VolfilesHealthPort serves its health.
const (
	VolfilesPort       = 24011
	VolfilesHealthPort = 24012
)

// BrickName returns the name of the StatefulSet of a brick, by its index, or ta for the
// tiebreaker. Its pod has the same name with -0 appended.
func BrickName(pool, index string) string { return "atoll-" + pool + "-" + index }

// RebalanceName returns the name of the Deployment that rebalances the files of a pool.
func RebalanceName(pool string) string { return "atoll-" + pool + "-rebalance" }

// RebalancePort is the TCP port on which the rebalance pod serves its progress.
const RebalancePort = 24013

// BrickPort is the TCP port of every brick: each brick has its own address.
const BrickPort = 24007

// maxConfigMap is the limit of Kubernetes for the data of a ConfigMap, in bytes.
const maxConfigMap = 1 << 20

// Render returns the objects of a pool in the order in which to apply them: ConfigMaps,
// Service, PodDisruptionBudgets, StatefulSets, a Deployment for pools of several sets,
// StorageClasses. The pool must be valid, as checked by loader.Load.
func Render(p *schema.Pool, o Options) ([]Object, error) {
	b, err := newBuilder(p, o)
	if err != nil {
		return nil, fmt.Errorf("render pool %s: %w", p.Metadata.Name, err)
	}
	for _, step := range []func() error{
		b.configMaps, b.service, b.disruptionBudgets, b.workloads, b.rebalance, b.storageClasses,
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("render pool %s: %w", p.Metadata.Name, err)
		}
	}
	return b.objects, nil
}

// namespaceID is the UUID namespace of volume IDs: the UUIDv5 of the API group as a DNS
// name (RFC 4122, 4.3).
var namespaceID = uuid.NewSHA1(uuid.NameSpaceDNS, []byte("atoll.storage"))

// VolumeID returns the pool's volume ID: that of the document or, by default, the UUIDv5 of
// namespace/name, which every machine derives alike.
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
		return nil, errors.New("metadata.name is missing")
	}
	if b.native() {
		b.volume = b.volumeOf()
	}
	return b, nil
}

func (b *builder) native() bool { return b.pool.Spec.Type != schema.External }

// volumeOf describes the pool for the volfile builders. Bricks have fully qualified names,
// which do not depend on a resolver's search list.
func (b *builder) volumeOf() volfile.Pool {
	s := &b.pool.Spec
	v := volfile.Pool{Name: b.name, VolumeID: VolumeID(b.pool, b.namespace), Type: s.Type, Options: s.Options}
	for i := range s.Bricks {
		v.Bricks = append(v.Bricks, volfile.Endpoint{
			Host: b.host(strconv.Itoa(i)), Port: BrickPort, Directory: b.directory(),
		})
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

// tiebreakerSuffix takes the place of a brick's index.
const tiebreakerSuffix = "ta"

// serviceName is the name of the headless Service and the beginning of all other names.
func (b *builder) serviceName() string { return "atoll-" + b.name }

// workload returns the name of a brick's StatefulSet.
func (b *builder) workload(suffix string) string { return BrickName(b.name, suffix) }

// host returns the fully qualified DNS name of a brick's pod.
func (b *builder) host(suffix string) string {
	return b.workload(suffix) + "-0." + b.serviceName() + "." + b.namespace + ".svc." + b.options.ClusterDomain
}

// mountpoint is where a brick's volume is mounted in its pod; directory is the brick's
// directory there. Both are as in Kadalu, so that its bricks can be adopted.
func (b *builder) mountpoint() string { return "/bricks/" + b.name + "/data" }
func (b *builder) directory() string  { return b.mountpoint() + "/brick" }

// Labels of the objects.
const (
	LabelPool  = catalog.LabelPool
	LabelBrick = "atoll.storage/brick" // index, or ta for the tiebreaker
	LabelSet   = "atoll.storage/set"
	// LabelNamespace is on cluster-scoped objects: the namespace of the pool.
	LabelNamespace = "atoll.storage/namespace"
	// LabelRebalance is on the rebalance pod. That pod is not a brick, so it has no LabelPool.
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

// keep are annotations for objects on which bricks and volumes depend. Without them Flux and
// Argo CD would delete these objects when the document is removed from git.
var keep = map[string]string{
	"kustomize.toolkit.fluxcd.io/prune": "disabled",
	"argocd.argoproj.io/sync-options":   "Prune=false",
}

// kept is meta with the annotations of keep.
func (b *builder) kept(name string, labels ...string) metav1.ObjectMeta {
	m := b.meta(name, labels...)
	m.Annotations = maps.Clone(keep)
	return m
}

func (b *builder) add(o Object) { b.objects = append(b.objects, o) }
