// Command atoll-csi is the CSI driver csi.atoll.storage, in three roles: controller,
// node, and mounter, which keeps the mounts of a node.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/driver"
	"github.com/atoll-storage/atoll/csi/kubelet"
	"github.com/atoll-storage/atoll/csi/mounts"
)

func main() {
	unix.Umask(0) // volumes get the modes that they are made with
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "atoll-csi: "+err.Error())
		os.Exit(1)
	}
}

// flags are those of all roles.
type flags struct {
	endpoint, catalog, mounts, health string
	verbosity                         int
}

func (f *flags) log() logr.Logger {
	level := slog.Level(-f.verbosity)
	return logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func newRoot() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{Use: "atoll-csi", Short: "The CSI driver of Atoll's storage pools", SilenceUsage: true, SilenceErrors: true}
	p := root.PersistentFlags()
	p.StringVar(&f.endpoint, "endpoint", "unix:///csi/csi.sock", "socket to serve on")
	p.StringVar(&f.catalog, "catalog", "/etc/atoll/catalog", "folder with a folder for each pool")
	p.StringVar(&f.mounts, "mounts", "/var/lib/kubelet/plugins/csi.atoll.storage/mounts", "folder below which pools are mounted")
	p.StringVar(&f.health, "health", "", "address for /healthz and /metrics, such as :9808; empty serves none")
	p.IntVarP(&f.verbosity, "verbosity", "v", 0, "more of the log: 1 tells every call")
	root.AddCommand(newController(f), newNode(f), newMounter(f))
	return root
}

func newController(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "controller", Short: "Make, change and delete volumes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			clients, err := mounts.NewUncached(f.mounts, f.log())
			if err != nil {
				return err
			}
			defer clients.Close()
			d := &driver.Driver{Version: version(), Catalog: catalog.Folder{Dir: f.catalog}, Mounts: clients, Log: f.log(), Controller: true}
			return serve(cmd.Context(), f, d, func(ctx context.Context) error { return d.Serve(ctx, f.endpoint) })
		},
	}
}

func newNode(f *flags) *cobra.Command {
	var id, root, holder, socket string
	cmd := &cobra.Command{
		Use: "node", Short: "Bring volumes to the pods of a node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			remote, err := mounts.Dial(holder)
			if err != nil {
				return err
			}
			defer remote.Close()
			d := &driver.Driver{
				Version: version(), NodeID: id, KubeletRoot: filepath.Clean(root), Catalog: catalog.Folder{Dir: f.catalog},
				Mounts: remote, Log: f.log(), Node: true,
			}
			services := []func(context.Context) error{func(ctx context.Context) error { return d.Serve(ctx, f.endpoint) }}
			if socket != "" {
				r := &kubelet.Registration{Folder: filepath.Join(root, "plugins_registry"), Socket: socket, Log: f.log()}
				services = append(services, r.Serve)
			}
			return serve(cmd.Context(), f, d, services...)
		},
	}
	cmd.Flags().StringVar(&id, "node-id", os.Getenv("NODE_NAME"), "name of the node (default: $NODE_NAME)")
	cmd.Flags().StringVar(&root, "kubelet-root", "/var/lib/kubelet", "folder below which all of the kubelet's paths are")
	cmd.Flags().StringVar(&holder, "mounter", "/csi/mounter.sock", "socket of the mounter")
	cmd.Flags().StringVar(&socket, "register", "", "register with the kubelet: the driver's socket as the kubelet sees it")
	return cmd
}

func newMounter(f *flags) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use: "mounter", Short: "Keep the mounts of a node, whatever becomes of the plugin", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			clients, err := mounts.New(f.mounts, f.log())
			if err != nil {
				return err
			}
			defer clients.Close()
			h := &mounts.Holder{Catalog: catalog.Folder{Dir: f.catalog}, Clients: clients}
			return h.Serve(cmd.Context(), socket)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "/csi/mounter.sock", "socket to serve on")
	return cmd
}

// serve runs services until the context ends or one of them fails.
func serve(ctx context.Context, f *flags, d *driver.Driver, services ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range services {
		g.Go(func() error { return s(ctx) })
	}
	if f.health != "" {
		g.Go(func() error { return serveHealth(ctx, f.health, d) })
	}
	return g.Wait()
}
