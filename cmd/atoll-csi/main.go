// Command atoll-csi is the CSI driver csi.atoll.storage, in four roles: controller,
// node, mounter, which keeps the mounts of a node, and catalog, which brings pools
// from the cluster to the others.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/atoll-storage/atoll/csi/catalog"
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
	endpoint, mounts, health, kubeconfig string
	catalog                              string
	verbosity                            int
}

// log makes the process's log, for the libraries too.
func (f *flags) log() logr.Logger {
	level := slog.Level(-f.verbosity)
	l := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	klog.SetLogger(l)
	return l
}

func (f *flags) folder() catalog.Folder { return catalog.Folder{Dir: f.catalog} }

// withMetrics tells that the catalog can be read, and these metrics.
func (f *flags) withMetrics(m prometheus.Gatherer) health {
	return health{metrics: m, check: func() error {
		_, err := f.folder().Names()
		return err
	}}
}

func newRoot() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{Use: "atoll-csi", Short: "The CSI driver of Atoll's storage pools", SilenceUsage: true, SilenceErrors: true}
	p := root.PersistentFlags()
	p.StringVar(&f.endpoint, "endpoint", "unix:///csi/csi.sock", "socket to serve on")
	p.StringVar(&f.catalog, "catalog", "/etc/atoll/catalog", "folder with a folder for each pool")
	p.StringVar(&f.mounts, "mounts", "/var/lib/kubelet/plugins/csi.atoll.storage/mounts", "folder below which pools are mounted")
	p.StringVar(&f.health, "health", "", "address for /healthz and /metrics, such as :9808; empty serves none")
	p.StringVar(&f.kubeconfig, "kubeconfig", "", "how to reach the cluster (default: as a pod of it)")
	p.IntVarP(&f.verbosity, "verbosity", "v", 0, "more of the log: 1 tells every call")
	root.AddCommand(newController(f), newNode(f), newMounter(f), newCatalog(f))
	return root
}

// serve runs services until the context ends or one of them fails.
func serve(ctx context.Context, f *flags, h health, services ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range services {
		g.Go(func() error { return s(ctx) })
	}
	g.Go(func() error { return h.serve(ctx, f.health) })
	return g.Wait()
}

// version is that of the program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
