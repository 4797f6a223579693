// Command atoll-reconciler makes a cluster match the pools in its custom resources or, in folder
// mode, in the documents of a directory.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"time"

	"github.com/fluxcd/pkg/runtime/events"
	"github.com/fluxcd/pkg/runtime/jitter"
	"github.com/fluxcd/pkg/runtime/leaderelection"
	"github.com/fluxcd/pkg/runtime/logger"
	"github.com/fluxcd/pkg/runtime/metrics"
	"github.com/fluxcd/pkg/runtime/pprof"
	"github.com/fluxcd/pkg/runtime/probes"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	scheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	live "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/pools"
	"github.com/atoll-storage/atoll/reconciler/source"
	"github.com/atoll-storage/atoll/render"
)

// name is the name of the program in leases and events.
const name = "atoll-reconciler"

type flags struct {
	metrics, health, events, namespace string
	kadalu                             bool
	source                             string
	interval                           time.Duration
	workers                            int
	bricksInterval, rolloutDeadline    time.Duration
	render                             render.Options

	limits limits
	elect  leaderelection.Options
	log    logger.Options
	jitter jitter.IntervalOptions
}

func main() {
	f := &flags{}
	cmd := &cobra.Command{
		Use: name, Short: "Reconcile the storage pools of a cluster", Args: cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) },
	}
	s := cmd.Flags()
	s.StringVar(&f.metrics, "metrics-addr", ":8080", "address of /metrics and /debug/pprof")
	s.StringVar(&f.health, "health-addr", ":9440", "address of /healthz and /readyz")
	s.StringVar(&f.events, "events-addr", "", "address of Flux's notification-controller, to send events to")
	s.StringVar(&f.namespace, "lease-namespace", os.Getenv("RUNTIME_NAMESPACE"),
		"namespace of the leader election lease")
	s.StringVar(&f.source, "source", "", "directory of pool documents to reconcile instead of custom resources")
	s.DurationVar(&f.interval, "source-interval", time.Minute, "how often the directory is reconciled without a change")
	s.BoolVar(&f.kadalu, "kadalu", false, "reconcile KadaluStorage resources, too")
	s.IntVar(&f.workers, "concurrent", 8, "number of pools reconciled concurrently")
	s.DurationVar(&f.bricksInterval, "bricks-interval", pools.DefaultBricksInterval,
		"how often bricks are polled; twice as often while one is offline or being healed")
	s.DurationVar(&f.rolloutDeadline, "roll-deadline", pools.DefaultRolloutDeadline,
		"how long a restart of bricks may wait before it is reported as stuck")
	s.StringVar(&f.render.Images.Brick, "brick-image", "",
		"image of brick pods, except the GlusterFS containers; default is the image of this version")
	s.StringVar(&f.render.Images.Gluster, "gluster-image", "",
		"image of the GlusterFS containers, glusterfsd and self-heal")
	f.limits.bind(s)
	f.elect.BindFlags(s)
	f.log.BindFlags(s)
	f.jitter.BindFlags(s)
	if err := cmd.ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

func (f *flags) run(ctx context.Context) error {
	log := logger.NewLogger(f.log)
	logger.SetLogger(log)
	if err := f.jitter.SetGlobalJitter(rand.New(rand.NewSource(time.Now().UnixNano()))); err != nil {
		return err
	}
	all := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(all); err != nil {
			return err
		}
	}
	config := f.limits.config(ctx)
	cached, err := pools.CacheOptions()
	if err != nil {
		return err
	}
	m, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: all, Cache: cached, Logger: log,
		Metrics:                       server.Options{BindAddress: f.metrics, ExtraHandlers: pprof.GetHandlers()},
		HealthProbeBindAddress:        f.health,
		LeaderElection:                f.elect.Enable,
		LeaderElectionNamespace:       f.namespace,
		LeaderElectionReleaseOnCancel: f.elect.ReleaseOnCancel,
		LeaseDuration:                 &f.elect.LeaseDuration,
		RenewDeadline:                 &f.elect.RenewDeadline,
		RetryPeriod:                   &f.elect.RetryPeriod,
		LeaderElectionID:              name,
	})
	if err != nil {
		return fmt.Errorf("connect to the cluster: %w", err)
	}
	probes.SetupChecks(m, log)
	if err := errors.Join(pools.IndexVolumes(ctx, m), f.setUp(m)); err != nil {
		return err
	}
	return m.Start(ctx)
}

// setUp adds a reconciler for each kind, or one for the directory in folder mode.
func (f *flags) setUp(m manager.Manager) error {
	a, err := apply.New(m.GetConfig())
	if err != nil {
		return err
	}
	if f.source != "" {
		writer, err := live.New(m.GetConfig(), live.Options{Scheme: m.GetScheme()})
		if err != nil {
			return err
		}
		return m.Add(&source.Folder{
			Dir: f.source, Interval: f.interval, Workers: f.workers, Writer: writer,
			Log: m.GetLogger().WithName("source"),
			Pools: &pools.Reconciler{
				Client: m.GetClient(), Applier: a, Options: f.render,
				BricksInterval: f.bricksInterval, RolloutDeadline: f.rolloutDeadline,
			},
		})
	}
	recorder, err := events.NewRecorder(m.GetLogger(), f.events, name, events.WithManager(m))
	if err != nil {
		return fmt.Errorf("create event recorder: %w", err)
	}
	kinds := []func() v1alpha1.Object{func() v1alpha1.Object { return &v1alpha1.StoragePool{} }}
	if f.kadalu {
		kinds = append(kinds, func() v1alpha1.Object { return &v1alpha1.KadaluStorage{} })
	}
	metricsRecorder := metrics.MustMakeRecorder()
	for _, kind := range kinds {
		r := &pools.Reconciler{
			Client: m.GetClient(), Applier: a, Options: f.render, Events: recorder, Metrics: metricsRecorder, New: kind,
			BricksInterval: f.bricksInterval, RolloutDeadline: f.rolloutDeadline,
		}
		if err := r.SetupWithManager(m, f.workers, f.limits.retries()); err != nil {
			return fmt.Errorf("set up reconciler of %T: %w", kind(), err)
		}
	}
	return nil
}
