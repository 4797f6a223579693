// Command atoll-csi is the CSI driver csi.atoll.storage, in four roles: controller, node,
// mounter, which has the GlusterFS clients of a node, and catalog, which copies pools from the
// cluster for the other roles.
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
	unix.Umask(0) // directories get the modes that they are created with
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "atoll-csi: "+err.Error())
		os.Exit(1)
	}
}

// flags are the flags of all roles.
type flags struct {
	endpoint, mounts, health, kubeconfig string
	catalog                              string
	verbosity                            int
}

// log returns the log of the process, and sets it for libraries.
func (f *flags) log() logr.Logger {
	level := slog.Level(-f.verbosity)
	l := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	klog.SetLogger(l)
	return l
}

func (f *flags) folder() catalog.Folder { return catalog.Folder{Dir: f.catalog} }

// withMetrics returns the health of a role: it is healthy if the catalog can be read.
func (f *flags) withMetrics(m prometheus.Gatherer) health {
	return health{metrics: m, check: func() error {
		_, err := f.folder().Names()
		return err
	}}
}

func newRoot() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{
		Use: "atoll-csi", Short: "The CSI driver of Atoll's storage pools", SilenceUsage: true, SilenceErrors: true,
	}
	p := root.PersistentFlags()
	p.StringVar(&f.endpoint, "endpoint", "unix:///csi/csi.sock", "socket to serve on")
	p.StringVar(&f.catalog, "catalog", "/etc/atoll/catalog", "directory with a directory for each pool")
	p.StringVar(&f.mounts, "mounts", "/var/lib/kubelet/plugins/csi.atoll.storage/mounts",
		"directory below which pools are mounted")
	p.StringVar(&f.health, "health", "", "address for /healthz and /metrics, such as :9808 (default: not served)")
	p.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file (default: in-cluster configuration)")
	p.IntVarP(&f.verbosity, "verbosity", "v", 0, "log verbosity; 1 logs every call")
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

// version returns the version of the program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
