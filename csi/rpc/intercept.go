package rpc

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// CallLimit ends calls whose caller has set no deadline.
const CallLimit = 2 * time.Minute

// Interceptor wraps the handlers of all services.
type Interceptor struct {
	log      logr.Logger
	locks    *Locks
	registry *prometheus.Registry
	calls    *prometheus.HistogramVec
}

// NewInterceptor returns an Interceptor that takes locks from a set that it shares with the
// background work of the services.
func NewInterceptor(log logr.Logger, locks *Locks) *Interceptor {
	i := &Interceptor{
		log: log, locks: locks, registry: prometheus.NewRegistry(),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atoll_csi_call_duration_seconds", Help: "Duration of calls of the CSI services.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"method", "code"}),
	}
	i.registry.MustRegister(i.calls)
	return i
}

// Metrics returns the durations of calls.
func (i *Interceptor) Metrics() prometheus.Gatherer { return i.registry }

// Intercept gives every call a deadline, the lock of its volume, a line in the log without
// secrets, and a response with a gRPC code, even if the handler panics.
func (i *Interceptor) Intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (response any, err error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, CallLimit)
		defer cancel()
	}
	log := i.log.WithValues("method", info.FullMethod)
	begin := time.Now()
	defer func() {
		if p := recover(); p != nil {
			log.Error(fmt.Errorf("%v", p), "call panicked", "stack", string(debug.Stack()))
			response, err = nil, status.Errorf(codes.Internal, "bug in the driver: %v; its log has the stack", p)
		}
	}()
	response, err = i.handleLocked(ctx, request, handle)
	code := Code(err)
	i.calls.WithLabelValues(info.FullMethod, code.String()).Observe(time.Since(begin).Seconds())
	if err == nil {
		log.V(1).Info("call succeeded", "request", withoutSecrets(request), "took", time.Since(begin).String())
		return response, nil
	}
	log.Info("call failed", "request", withoutSecrets(request), "code", code.String(), "error", err.Error(), "took",
		time.Since(begin).String())
	return nil, status.Error(code, err.Error())
}

func (i *Interceptor) handleLocked(ctx context.Context, request any, handle grpc.UnaryHandler) (any, error) {
	unlock, err := i.locks.lockRequest(request)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return handle(ctx, request)
}
