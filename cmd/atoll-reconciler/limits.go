package main

import (
	"context"
	"time"

	"github.com/fluxcd/cli-utils/pkg/flowcontrol"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// limits are the rate of requests to the API server and the delays of retries. The flags are those
// of Flux's controllers, whose packages link kubectl and gomega into the program.
type limits struct {
	qps                float32
	burst              int
	minRetry, maxRetry time.Duration
}

func (l *limits) bind(s *pflag.FlagSet) {
	// The API server has its own limits.
	s.Float32Var(&l.qps, "kube-api-qps", 500, "The maximum queries-per-second of requests sent to the Kubernetes API.")
	s.IntVar(&l.burst, "kube-api-burst", 1000,
		"The maximum burst queries-per-second of requests sent to the Kubernetes API.")
	s.DurationVar(&l.minRetry, "min-retry-delay", 750*time.Millisecond,
		"The minimum amount of time for which an object being reconciled will have to wait before a retry.")
	s.DurationVar(&l.maxRetry, "max-retry-delay", 15*time.Minute,
		"The maximum amount of time for which an object being reconciled will have to wait before a retry.")
}

// config loads the configuration of the cluster. If the API server has priority and fairness
// enabled, the client does not limit its requests.
func (l *limits) config(ctx context.Context) *rest.Config {
	config := ctrl.GetConfigOrDie()
	config.QPS, config.Burst = l.qps, l.burst
	if fair, err := flowcontrol.IsEnabled(ctx, config); err == nil && fair {
		config.QPS, config.Burst = -1, -1
	}
	return config
}

// retries returns a rate limiter with exponential backoff for each pool.
func (l *limits) retries() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](l.minRetry, l.maxRetry)
}
