package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/atoll-storage/atoll/tests/internal/cluster/machine"
)

// Cluster is a running cluster.
type Cluster struct {
	Spec
	// Kubeconfig is the path of an administrator's kubeconfig for this host.
	Kubeconfig string
	// Rest is the configuration in that file.
	Rest *rest.Config
	// Client is a client with that configuration.
	Client *kubernetes.Clientset

	machine *exec.Cmd
	watch   *os.File // closing it ends a watched cluster
}

// Up boots a cluster and waits until all nodes are ready. It passes its progress to report.
func Up(ctx context.Context, s Spec, report func(string)) (*Cluster, error) {
	if pid, start, err := s.initProcess(); err == nil && startTime(pid) == start {
		return nil, fmt.Errorf("a cluster already runs in %s: end it with 'make cluster-down'", s.Dir)
	}
	if err := s.clean(); err != nil { // after a cluster that was killed
		return nil, err
	}
	old, err := filepath.Glob(s.path("nodes", "*", "log"))
	if err != nil {
		return nil, err
	}
	for _, d := range append(old, s.path("log")) {
		if err := os.RemoveAll(d); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{"log", "etcd"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return nil, err
		}
	}
	for n := 1; n <= s.Nodes; n++ {
		if err := os.MkdirAll(s.NodeDir(n), 0o755); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	if err := s.credentials(listener.Addr().String()); err != nil {
		return nil, err
	}
	c := &Cluster{Spec: s, Kubeconfig: s.pki("host.kubeconfig")}
	if c.Rest, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return nil, err
	}
	c.Rest.QPS, c.Rest.Burst = 200, 400
	if c.Client, err = kubernetes.NewForConfig(c.Rest); err != nil {
		return nil, err
	}
	if err := c.launch(listener.(*net.TCPListener)); err != nil {
		return nil, err
	}
	if err := c.boot(ctx, report); err != nil {
		return nil, errors.Join(err, c.Down())
	}
	return c, nil
}

// launch starts the control plane's machine, which starts everything else.
func (c *Cluster) launch(listener *net.TCPListener) error {
	socket, err := listener.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	c.watch = write
	log, err := os.Create(c.path("log", "machine.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := os.RemoveAll(c.controlSocket()); err != nil {
		return err
	}
	if c.machine, err = machine.Start("control-plane", "", c.Spec, log, socket, read); err != nil {
		return err
	}
	return os.WriteFile(c.path("pid"), fmt.Appendf(nil, "%d %s\n", c.machine.Process.Pid,
		startTime(c.machine.Process.Pid)), 0o600)
}

// initProcess reads the ID and start time of the process whose end ends the cluster.
func (s Spec) initProcess() (pid int, start string, err error) {
	raw, err := os.ReadFile(s.path("pid"))
	if err != nil {
		return 0, "", err
	}
	_, err = fmt.Sscan(string(raw), &pid, &start)
	return pid, start, err
}

// startTime returns a process' start time from /proc, "" if it does not exist. A PID and a
// start time together identify a process.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	const after = 22 - 3 // field 22 of proc_pid_stat(5); the third follows the name
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) <= after {
		return ""
	}
	return string(f[after])
}

func (s Spec) credentials(host string) error {
	p, err := newPKI(s.path("pki"))
	if err != nil {
		return err
	}
	if err := p.sign("apiserver", "kube-apiserver", nil,
		"127.0.0.1", controlPlane, serviceAddress,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local"); err != nil {
		return err
	}
	inside := fmt.Sprintf("https://%s:%d", controlPlane, securePort)
	type user struct {
		file, server, name string
		group              []string
	}
	users := []user{
		{"host", "https://" + host, "admin", []string{"system:masters"}},
		{"admin", inside, "admin", []string{"system:masters"}},
		{"controller-manager", inside, "system:kube-controller-manager", nil},
		{"scheduler", inside, "system:kube-scheduler", nil},
		{"kube-proxy", inside, "system:kube-proxy", nil},
	}
	for n := 1; n <= s.Nodes; n++ {
		users = append(users, user{NodeName(n), inside, "system:node:" + NodeName(n), []string{"system:nodes"}})
	}
	for _, u := range users {
		if err := p.kubeconfig(u.file, u.server, u.name, u.group...); err != nil {
			return err
		}
	}
	return os.WriteFile(s.path("Corefile"), fmt.Appendf(nil, `.:53 {
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local {
        kubeconfig %s
    }
    cache 30
}
`, s.pki("admin.kubeconfig")), 0o600)
}

// boot waits for the API server and the nodes, and creates the DNS service.
func (c *Cluster) boot(ctx context.Context, report func(string)) error {
	start := time.Now()
	if err := c.waitUntil(ctx, "the API server is ready", func(ctx context.Context) error {
		_, err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	}); err != nil {
		return err
	}
	report(fmt.Sprintf("API server after %.0f s", time.Since(start).Seconds()))
	if err := c.addDNS(ctx); err != nil {
		return err
	}
	if err := c.waitUntil(ctx, "nodes are ready", func(ctx context.Context) error {
		return c.nodesReady(ctx)
	}); err != nil {
		return err
	}
	report(fmt.Sprintf("%d nodes ready after %.0f s", c.Nodes, time.Since(start).Seconds()))
	return nil
}

func (c *Cluster) nodesReady(ctx context.Context) error {
	for n := 1; n <= c.Nodes; n++ {
		if err := c.NodeReady(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// NodeReady returns an error unless node n is ready.
func (c *Cluster) NodeReady(ctx context.Context, n int) error {
	node, err := c.Client.CoreV1().Nodes().Get(ctx, NodeName(n), getOptions)
	if err != nil {
		return err
	}
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
			return nil
		} else if cond.Type == corev1.NodeReady {
			return fmt.Errorf("%s: %s", node.Name, cond.Message)
		}
	}
	return fmt.Errorf("%s has no Ready condition", node.Name)
}

// waitUntil polls until ask succeeds, the context ends, or the cluster has ended.
func (c *Cluster) waitUntil(ctx context.Context, what string, ask func(context.Context) error) error {
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if c.machine != nil && startTime(c.machine.Process.Pid) == "" {
			log, _ := os.ReadFile(c.path("log", "machine.log"))
			return fmt.Errorf("the cluster ended before %s: %s", what, log)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w: %w", what, ctx.Err(), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Control starts or stops a process of the cluster (etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, coredns, n1, ...), or unplugs or plugs in a node's
// network.
func (c *Cluster) Control(ctx context.Context, verb, name string, signal syscall.Signal) error {
	return sendRequest(ctx, c.controlSocket(), machine.Request{Verb: verb, Name: name, Signal: signal})
}

func sendRequest(ctx context.Context, socket string, o machine.Request) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cluster/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s %s: %s", o.Verb, o.Name, bytes.TrimSpace(text))
	}
	return nil
}

// Down ends the cluster and removes its files except logs and containerd's images: the next
// cluster in this directory removes the logs and uses the images.
func (c *Cluster) Down() error {
	if c.watch != nil {
		c.watch.Close()
	}
	if c.machine != nil {
		_ = c.machine.Process.Kill() // it may have ended
		_ = c.machine.Wait()
	}
	return c.clean()
}

// Down ends the cluster in a directory, which another process may have started.
func Down(dir string) error {
	pid, start, err := Spec{Dir: dir}.initProcess()
	if err != nil {
		return fmt.Errorf("no cluster in %s: %w", dir, err)
	}
	if startTime(pid) == start {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("ending the cluster: %w", err)
		}
		for startTime(pid) == start {
			time.Sleep(20 * time.Millisecond)
		}
	}
	return Spec{Dir: dir}.clean()
}

// clean removes a cluster's cgroups and files. Its mounts, processes, networks and disks ended
// with its machines.
func (s Spec) clean() error {
	if err := machine.RemoveCgroups(s.cgroup() + "-*"); err != nil {
		return err
	}
	nodes, err := filepath.Glob(s.path("nodes", "*", "*"))
	if err != nil {
		return err
	}
	remove := []string{s.path("etcd"), s.path("pki"), s.path("pid"), s.path("Corefile"), s.controlSocket()}
	for _, n := range nodes {
		if b := filepath.Base(n); b != "containerd" && b != "log" {
			remove = append(remove, n)
		}
	}
	for _, r := range remove {
		if err := os.RemoveAll(r); err != nil {
			return err
		}
	}
	return nil
}
