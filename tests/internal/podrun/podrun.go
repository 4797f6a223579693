// Package podrun runs rendered brick pods as local processes, as a kubelet would: every pod has
// an address and a host name, every container has a mount namespace, a read-only root and only
// the capabilities that it requests. It reads only the rendered objects, so that what it proves
// holds for them.
//
// It is for tests and the demo. It needs root, and leaves nothing behind.
package podrun

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/tests/internal/netns"
)

// readyLimit is how long a pod may take until its probe succeeds, and initLimit how long an
// init container may take. They only end what never succeeds: machines are slow beside other
// work.
const (
	readyLimit = 5 * time.Minute
	initLimit  = readyLimit
)

// Cluster is a set of nodes on this machine.
type Cluster struct {
	// Dir is the directory of the cluster: nodes, logs, and mounts.
	Dir string
	// Program is the directory that has atoll-brick.
	Program string
	// Hold is the flag --hold of the brick pods' volfile server, unless it is zero.
	Hold time.Duration
	// FreshFor and SettleFor are the flags --fresh-for and --settle-for of the agents, unless they
	// are zero.
	FreshFor, SettleFor time.Duration
	// Secrets are the Secrets that pods may mount, by name and key.
	Secrets map[string]map[string]string

	network *netns.Network
	objects []render.Object
	pods    map[string]*Pod
	lost    []*Pod            // see Lose
	mounts  map[string]string // graph of the catalog by the volfile of a client
	clients map[string]client // by mount
	served  map[string]bool   // pods whose bricks are in the clients' graphs
	undo    []func() error
}

// Pod is a pod; its name is that of its StatefulSet with "-0".
type Pod struct {
	Name string
	IP   string

	dir        string // below Dir: its volumes, and the roots of its containers
	node       string
	namespace  string // path of its network namespace
	spec       corev1.PodSpec
	containers map[string]*process
}

// New makes a cluster below dir for these objects, without running pods. Close removes it.
func New(dir, program string, objects []render.Object) (c *Cluster, err error) {
	if os.Getuid() != 0 {
		return nil, errors.New("run pods as processes: root is needed for namespaces and loop devices")
	}
	c = &Cluster{
		Dir: dir, Program: program, objects: objects, pods: map[string]*Pod{}, mounts: map[string]string{},
		served: map[string]bool{}, clients: map[string]client{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
			c = nil
		}
	}()
	if err := c.shareMounts(); err != nil {
		return c, err
	}
	if c.network, err = netns.New(); err != nil {
		return c, err
	}
	c.undo = append(c.undo, c.network.Close)
	for _, o := range objects {
		if err := c.addPod(o); err != nil {
			return c, err
		}
	}
	return c, c.writeHosts()
}

// specOf returns the pod spec of an object, nil if it has none.
func specOf(o render.Object) *corev1.PodSpec {
	switch o := o.(type) {
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec
	}
	return nil
}

// addPod adds the pod of an object, or updates its spec if the pod exists.
func (c *Cluster) addPod(o render.Object) error {
	spec, name := specOf(o), o.GetName()+"-0"
	if spec == nil {
		return nil
	}
	if p := c.pods[name]; p != nil {
		p.spec, p.node = *spec, nodeOf(name, spec)
		return nil
	}
	return c.newPod(name, filepath.Join("pods", name), spec)
}

func (c *Cluster) newPod(name, dir string, spec *corev1.PodSpec) error {
	p := &Pod{Name: name, dir: dir, spec: *spec, containers: map[string]*process{}, node: nodeOf(name, spec)}
	var err error
	if p.IP, p.namespace, err = c.network.Add(); err != nil {
		return fmt.Errorf("pod %s: %w", p.Name, err)
	}
	c.pods[p.Name] = p
	return nil
}

// Apply applies the objects of a changed document. Running pods stay as they are, as with the
// update strategy OnDelete. They and the clients see changed ConfigMaps.
func (c *Cluster) Apply(objects []render.Object) error {
	c.objects = objects
	for _, o := range objects {
		if err := c.addPod(o); err != nil {
			return err
		}
	}
	if err := c.writeHosts(); err != nil {
		return err
	}
	for _, p := range c.pods {
		for _, v := range p.spec.Volumes {
			if v.ConfigMap == nil {
				continue
			}
			if _, err := c.volume(p, v); err != nil {
				return err
			}
		}
	}
	return c.publish()
}

// publish gives clients a changed graph as a node's mounter does: once all of its bricks are
// reachable.
func (c *Cluster) publish() error {
	ready := true
	for _, name := range c.Pods() {
		ready = ready && (c.served[name] || c.Ready(name) == nil)
	}
	for path, graph := range c.mounts {
		former, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := c.clientGraph(graph)
		if sets(text) > sets(string(former)) && !ready {
			return nil
		}
		if err := replaceFile(path, text); err != nil {
			return err
		}
	}
	for _, name := range c.Pods() {
		c.served[name] = c.served[name] || ready
	}
	return nil
}

// sets counts the replica or disperse sets of a client's graph.
func sets(graph string) int {
	_, distribution, _ := strings.Cut(graph, "type cluster/distribute")
	_, list, _ := strings.Cut(distribution, "subvolumes ")
	list, _, _ = strings.Cut(list, "\n")
	return len(strings.Fields(list))
}

// Delete kills all containers of a pod.
func (c *Cluster) Delete(pod string) error {
	p := c.pods[pod]
	if p == nil {
		return fmt.Errorf("no pod %s", pod)
	}
	var errs []error
	for _, run := range p.containers {
		errs = append(errs, run.kill())
	}
	clear(p.containers)
	return errors.Join(errs...)
}

// Stop stops a pod as a kubelet does: SIGTERM for its containers, and then for its sidecars in
// reverse order.
func (c *Cluster) Stop(pod string) error {
	p := c.pods[pod]
	if p == nil {
		return fmt.Errorf("no pod %s", pod)
	}
	grace := time.Duration(*p.spec.TerminationGracePeriodSeconds) * time.Second
	sidecars := slices.Clone(p.spec.InitContainers)
	slices.Reverse(sidecars)
	var errs []error
	for _, container := range slices.Concat(p.spec.Containers, sidecars) {
		if run := p.containers[container.Name]; run != nil {
			if err := run.stop(grace); err != nil {
				errs = append(errs, fmt.Errorf("container %s: %w", container.Name, err))
			}
		}
	}
	clear(p.containers)
	return errors.Join(errs...)
}

// Connect connects a pod to the network, or disconnects it. Its peers see only silence.
func (c *Cluster) Connect(pod string, connected bool) error {
	p := c.pods[pod]
	if p == nil {
		return fmt.Errorf("no pod %s", pod)
	}
	return c.network.Connect(p.namespace, connected)
}

// nodeOf is the node to which a pod is bound; each pod that is bound to none gets a node.
func nodeOf(name string, spec *corev1.PodSpec) string {
	if a := spec.Affinity; a != nil && a.NodeAffinity != nil {
		required := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		return required.NodeSelectorTerms[0].MatchFields[0].Values[0]
	}
	return "node-of-" + strings.TrimSuffix(name, "-0")
}

// NodePath is a node's path as a path of this machine.
func (c *Cluster) NodePath(node, path string) string {
	return filepath.Join(c.Dir, "nodes", node, path)
}

// Pods lists the names of the bricks' pods.
func (c *Cluster) Pods() []string {
	var names []string
	for _, o := range c.objects {
		if set, is := o.(*appsv1.StatefulSet); is {
			names = append(names, set.Name+"-0")
		}
	}
	return names
}

func (c *Cluster) hostsFile() string { return filepath.Join(c.Dir, "hosts") }

// writeHosts writes what the cluster's DNS would answer: pod names below their Service. The
// file is rewritten in place, because containers mount it.
func (c *Cluster) writeHosts() error {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	for _, o := range c.objects {
		set, is := o.(*appsv1.StatefulSet)
		if !is {
			continue
		}
		name := set.Name + "-0"
		fmt.Fprintf(&b, "%s %s.%s.%s.svc.cluster.local %s\n", c.pods[name].IP, name, set.Spec.ServiceName,
			set.Namespace, name)
	}
	return os.WriteFile(c.hostsFile(), []byte(b.String()), 0o600)
}

// Start runs the pod's init containers in order, starts its containers, and waits until their
// readiness probes succeed.
func (c *Cluster) Start(ctx context.Context, name string) error {
	p := c.pods[name]
	if p == nil {
		return fmt.Errorf("no pod %s", name)
	}
	for _, container := range p.spec.InitContainers {
		run, err := c.start(p, container)
		if err != nil {
			return err
		}
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			p.containers[container.Name] = run // a sidecar
			if err := c.ready(ctx, p, container, container.StartupProbe); err != nil {
				return err
			}
			continue
		}
		waiting, cancel := context.WithTimeout(ctx, initLimit)
		err = run.wait(waiting)
		cancel()
		if err != nil {
			return fmt.Errorf("pod %s, init container %s: %w\n%s", name, container.Name, err,
				c.Log(name, container.Name))
		}
	}
	for _, container := range p.spec.Containers {
		if err := c.StartContainer(ctx, name, container.Name); err != nil {
			return err
		}
	}
	for _, container := range p.spec.InitContainers { // sidecars
		if err := c.ready(ctx, p, container, container.ReadinessProbe); err != nil {
			return err
		}
	}
	return nil
}

// StartAll starts pods at the same time, because bricks wait for each other.
func (c *Cluster) StartAll(ctx context.Context, names ...string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range names {
		g.Go(func() error { return c.Start(ctx, name) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.publish()
}

// Run starts a pod's containers without waiting until they are ready.
func (c *Cluster) Run(name string) error {
	p := c.pods[name]
	if p == nil {
		return fmt.Errorf("no pod %s", name)
	}
	for _, container := range p.spec.Containers {
		run, err := c.start(p, container)
		if err != nil {
			return err
		}
		p.containers[container.Name] = run
	}
	return nil
}

// Ready runs the readiness probes of a pod's containers once.
func (c *Cluster) Ready(name string) error {
	p := c.pods[name]
	if p == nil {
		return fmt.Errorf("no pod %s", name)
	}
	for _, container := range p.spec.Containers {
		probe := probeOf(container, container.ReadinessProbe)
		if probe == nil {
			continue
		}
		if err := netns.In(p.namespace, func() error { return probe(p.IP) }); err != nil {
			return err
		}
	}
	return nil
}

// StartContainer starts a container that has ended, as kubelet does.
func (c *Cluster) StartContainer(ctx context.Context, pod, container string) error {
	p := c.pods[pod]
	spec, err := p.container(container)
	if err != nil {
		return err
	}
	run, err := c.start(p, spec)
	if err != nil {
		return err
	}
	p.containers[container] = run
	return c.ready(ctx, p, spec, spec.ReadinessProbe)
}

// container is a container of the pod, by name.
func (p *Pod) container(name string) (corev1.Container, error) {
	for _, spec := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
		if spec.Name == name {
			return spec, nil
		}
	}
	return corev1.Container{}, fmt.Errorf("pod %s has no container %s", p.Name, name)
}

// ready polls a probe of a container until it succeeds.
func (c *Cluster) ready(ctx context.Context, p *Pod, spec corev1.Container, of *corev1.Probe) error {
	probe := probeOf(spec, of)
	if probe == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		err := netns.In(p.namespace, func() error { return probe(p.IP) })
		if err == nil {
			return nil
		}
		if p.containers[spec.Name].ended() {
			ended := fmt.Sprint(p.containers[spec.Name].err) // nil if the exit code is 0
			return fmt.Errorf("pod %s, container %s ended (%s):\n%s", p.Name, spec.Name, ended,
				c.Log(p.Name, spec.Name))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s, container %s is not ready: %w\n%s", p.Name, spec.Name, err,
				c.Log(p.Name, spec.Name))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// probeOf returns the function of a container's probe, nil without a probe.
func probeOf(spec corev1.Container, r *corev1.Probe) func(ip string) error {
	port := func(name string) int {
		for _, named := range spec.Ports {
			if named.Name == name {
				return int(named.ContainerPort)
			}
		}
		return 0
	}
	switch {
	case r != nil && r.TCPSocket != nil:
		return func(ip string) error { return dial(ip, port(r.TCPSocket.Port.StrVal)) }
	case r != nil && r.HTTPGet != nil:
		return func(ip string) error { return get(ip, port(r.HTTPGet.Port.StrVal), r.HTTPGet.Path) }
	}
	return nil
}

// Kill kills a container.
func (c *Cluster) Kill(pod, container string) error {
	p := c.pods[pod]
	if p == nil || p.containers[container] == nil {
		return fmt.Errorf("pod %s has no running container %s", pod, container)
	}
	return p.containers[container].kill()
}

// PID is the process ID of a container, as this machine sees it.
func (c *Cluster) PID(pod, container string) int {
	return c.pods[pod].containers[container].cmd.Process.Pid
}

// Daemon is the process ID of the daemon that a container's supervisor runs, as this machine sees it; 0
// while there is none.
func (c *Cluster) Daemon(pod, container string) int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.PID(pod, container)))
	for _, file := range files {
		var pid int
		text, _ := os.ReadFile(file)
		if _, err := fmt.Sscan(string(text), &pid); err == nil {
			return pid
		}
	}
	return 0
}

// Get reads a page over HTTP as a process in the pod would.
func (c *Cluster) Get(pod, url string) (string, error) { return netns.Get(c.pods[pod].namespace, url) }

// Log returns the end of a container's log.
func (c *Cluster) Log(pod, container string) string {
	text, _ := os.ReadFile(c.logFile(pod, container))
	return string(text[max(0, len(text)-3000):])
}

func (c *Cluster) logFile(pod, container string) string {
	return filepath.Join(c.Dir, "logs", pod+"."+container+".log")
}

// Close kills all processes and removes mounts, devices and namespaces. It continues after an
// error and returns all errors.
func (c *Cluster) Close() error {
	var errs []error
	for _, p := range slices.AppendSeq(slices.Clone(c.lost), maps.Values(c.pods)) {
		for _, run := range p.containers {
			errs = append(errs, run.kill())
		}
	}
	for i := len(c.undo) - 1; i >= 0; i-- {
		errs = append(errs, c.undo[i]())
	}
	c.undo = nil
	return errors.Join(errs...)
}
