package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/atoll-storage/atoll/csi/agents"
	"github.com/atoll-storage/atoll/csi/catalog/follow"
	"github.com/atoll-storage/atoll/csi/controller"
	"github.com/atoll-storage/atoll/csi/copies"
	"github.com/atoll-storage/atoll/csi/driver"
	"github.com/atoll-storage/atoll/csi/events"
	"github.com/atoll-storage/atoll/csi/evict"
	"github.com/atoll-storage/atoll/csi/kubelet"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/node"
	"github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/csi/retire"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/schema"
)

func newController(f *flags) *cobra.Command {
	var keys, retires string
	var checkNodes, evicts bool
	cmd := &cobra.Command{
		Use: "controller", Short: "Create, change and delete volumes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := f.log()
			clients, err := mounts.NewUncached(f.mounts, log)
			if err != nil {
				return err
			}
			defer clients.Close()
			bricks := &agents.Agents{Keys: func() (agent.Keys, error) { return agent.ReadKeys(keys) }}
			c := &controller.Config{
				Quota:  &quota.Agents{Agents: bricks},
				Copies: copies.Copier{Agents: bricks, Log: log},
			}
			if checkNodes {
				client, err := f.cluster()
				if err != nil {
					return err
				}
				c.HasDriver = func(ctx context.Context, node string) (bool, error) {
					return hasDriver(ctx, client, node)
				}
			}
			d := driver.New(driver.Config{
				Version: version(), Catalog: f.folder(), Mounts: clients, Log: log, Controller: c,
			})
			services := []func(context.Context) error{
				func(ctx context.Context) error { return d.Serve(ctx, f.endpoint) },
				func(ctx context.Context) error { return clients.Run(ctx, f.folder()) },
			}
			watchers, err := f.watchers(evicts, retires)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), f, f.withMetrics(prometheus.Gatherers{d.Metrics(), clients.Metrics()}),
				append(services, watchers...)...)
		},
	}
	cmd.Flags().BoolVar(&checkNodes, "check-nodes", false,
		"publish volumes only to nodes whose CSINode lists the driver")
	cmd.Flags().BoolVar(&evicts, "evict", false,
		"evict pods that have to start again to see a volume that their node has lost (recovery: Evict)")
	cmd.Flags().StringVar(&retires, "retire-mounters", "",
		"take mounters that are to end out of their DaemonSet in this namespace, so that its update counts as done")
	cmd.Flags().StringVar(&keys, "agent-keys", "/etc/atoll/agent-keys",
		"directory with the keys that the agents of bricks trust; without keys, sizes are advisory")
	return cmd
}

// watchers returns what the controller does for pods of the cluster.
func (f *flags) watchers(evicts bool, retires string) (services []func(context.Context) error, err error) {
	if !evicts && retires == "" {
		return nil, nil
	}
	client, err := f.cluster()
	if err != nil {
		return nil, err
	}
	if evicts {
		e := &evict.Evictor{Client: client, Catalog: f.folder(), Log: f.log(), Limits: evict.DefaultLimits}
		services = append(services, e.Run)
	}
	if retires != "" {
		r := &retire.Retirer{Client: client, Namespace: retires, Log: f.log()}
		services = append(services, r.Run)
	}
	return services, nil
}

// hasDriver reports whether the driver runs on a node of the cluster.
func hasDriver(ctx context.Context, client kubernetes.Interface, node string) (bool, error) {
	n, err := client.StorageV1().CSINodes().Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get CSINode %s: %w", node, err)
	}
	return slices.ContainsFunc(n.Spec.Drivers, func(d storagev1.CSINodeDriver) bool {
		return d.Name == schema.DriverName
	}), nil
}

func newNode(f *flags) *cobra.Command {
	var mounter, socket string
	var writeEvents bool
	c := &node.Config{}
	cmd := &cobra.Command{
		Use: "node", Short: "Mount volumes for the pods of a node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := f.log()
			c.KubeletRoot = filepath.Clean(c.KubeletRoot)
			remote := mounts.NewGenerations(mounter, generations(mounter))
			defer remote.Close()
			c.Devices, c.Clients = remote, remote
			if writeEvents {
				client, err := f.cluster()
				if err != nil {
					return err
				}
				r := events.New(client, c.NodeID, log)
				defer r.Close()
				c.Events = r
			}
			d := driver.New(driver.Config{Version: version(), Catalog: f.folder(), Mounts: remote, Log: log, Node: c})
			services := []func(context.Context) error{
				func(ctx context.Context) error { return d.Serve(ctx, f.endpoint) },
			}
			if socket != "" {
				dir := filepath.Join(c.KubeletRoot, "plugins_registry")
				r := &kubelet.Registration{Dir: dir, Socket: socket, Log: log}
				services = append(services, r.Serve)
			}
			return serve(cmd.Context(), f, f.withMetrics(d.Metrics()), services...)
		},
	}
	cmd.Flags().StringVar(&c.NodeID, "node-id", os.Getenv("NODE_NAME"), "name of the node (default: $NODE_NAME)")
	cmd.Flags().StringVar(&c.KubeletRoot, "kubelet-root", "/var/lib/kubelet",
		"directory below which all paths of the kubelet are")
	cmd.Flags().StringVar(&mounter, "mounter", "/csi/mounter.sock",
		"socket of the mounter, or a link to that of the newest")
	cmd.Flags().StringVar(&socket, "register", "",
		"register this path with the kubelet as the driver's socket (default: do not register)")
	cmd.Flags().BoolVar(&writeEvents, "events", false, "write events of pods whose volumes lost their client or device")
	return cmd
}

// generations is the directory with the sockets of all mounters of a node, beside the link to the newest.
func generations(socket string) string { return filepath.Join(filepath.Dir(socket), "mounters") }

func newMounter(f *flags) *cobra.Command {
	m := &mounter{flags: f}
	cmd := &cobra.Command{
		Use: "mounter", Short: "Keep the GlusterFS clients of a node, independent of the node plugin",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if m.generation == "" {
				return m.run(cmd.Context(), f.mounts, m.socket, nil)
			}
			return m.runGeneration(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&m.socket, "socket", "/csi/mounter.sock",
		"socket to serve on; with --generation, a link to the newest mounter's")
	cmd.Flags().StringVar(&m.node, "node-id", os.Getenv("NODE_NAME"),
		"name of the node (default: $NODE_NAME); without a name there are no block volumes")
	cmd.Flags().StringVar(&m.generation, "generation", "",
		"name of this mounter among those of the node: SIGTERM then ends it when nothing is mounted through it any more")
	return cmd
}

func newCatalog(f *flags) *cobra.Command {
	follower := &follow.Follower{}
	cmd := &cobra.Command{
		Use: "catalog", Short: "Copy the cluster's catalog ConfigMaps into the catalog directory", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.cluster()
			if err != nil {
				return err
			}
			follower.Client, follower.Folder, follower.Log = client, f.folder(), f.log()
			h := health{metrics: prometheus.NewRegistry(), check: func() error {
				if !follower.Following() {
					return errors.New("catalog of the cluster not read yet")
				}
				return nil
			}}
			return serve(cmd.Context(), f, h, follower.Run)
		},
	}
	cmd.Flags().StringSliceVar(&follower.Namespaces, "namespaces", []string{schema.DefaultNamespace},
		"namespaces of catalog ConfigMaps; write access to them equals root on the nodes")
	return cmd
}

// cluster connects to the cluster.
func (f *flags) cluster() (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of the cluster client: %w", err)
	}
	config.QPS, config.Burst = 50, 100 // as the sidecars: a node that loses its volumes has many pods
	config.UserAgent = "atoll-csi/" + version()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return client, nil
}
