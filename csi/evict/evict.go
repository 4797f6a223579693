// Package evict makes pods start again that have to in order to see a volume that their node has lost.
// Nodes report losses as events (package events) and may evict nobody: this runs in the controller,
// checks what they say, and evicts one pod of a workload after the other, as far as budgets allow.
package evict

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/events"
	"github.com/atoll-storage/atoll/schema"
)

// callLimit is how long one loss may be worked on.
const callLimit = 30 * time.Second

// Evictor evicts pods. It needs the permissions to get persistent volumes, to get and list pods, to
// list, watch, create and patch events, and to create evictions.
type Evictor struct {
	Client  kubernetes.Interface
	Catalog catalog.Folder
	Log     logr.Logger
	// Limits are DefaultLimits, but for tests.
	Limits Limits

	losses    cache.Store // of events
	recorder  record.EventRecorder
	workloads workloads
	announced map[events.Loss]bool // pods that were told that they are evicted
}

// Run evicts pods until ctx ends.
func (e *Evictor) Run(ctx context.Context) error {
	broadcaster := record.NewBroadcaster()
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typed.EventSinkImpl{Interface: e.Client.CoreV1().Events("")})
	e.recorder = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: schema.DriverName})
	e.announced = map[events.Loss]bool{}
	e.workloads = workloads{limits: e.Limits}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[events.Loss](
		e.Limits.FirstRetry, e.Limits.LongestRetry))
	defer queue.ShutDown()
	factory := informers.NewSharedInformerFactoryWithOptions(e.Client, 0, informers.WithTweakListOptions(
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("reason", events.ReasonLost).String()
		}))
	informer := factory.Core().V1().Events().Informer()
	e.losses = informer.GetStore()
	add := func(o any) {
		if event, is := o.(*corev1.Event); is {
			if l, is := events.LossOf(event); is {
				queue.Add(l)
			}
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, o any) { add(o) },
	}); err != nil {
		return fmt.Errorf("watch the events of lost volumes: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	go func() {
		<-ctx.Done()
		queue.ShutDown()
	}()
	for {
		l, ended := queue.Get()
		if ended {
			return nil
		}
		e.next(ctx, queue, l)
	}
}

// next works on one loss, and decides when to work on it again.
func (e *Evictor) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[events.Loss], l events.Loss) {
	defer queue.Done(l)
	call, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	wait, err := e.handle(call, l)
	switch {
	case err != nil:
		e.Log.Info("pod with a lost volume not evicted yet", "namespace", l.Namespace, "pod", l.Pod,
			"persistentVolume", l.Volume, "attempts", queue.NumRequeues(l)+1, "error", err.Error())
		queue.AddRateLimited(l)
	case wait > 0:
		queue.AddAfter(l, wait)
	default:
		queue.Forget(l)
		delete(e.announced, l)
	}
}

// handle evicts the pod of a loss if that is necessary, allowed, and its workload's turn. Otherwise, it
// returns how long to wait, 0 if there is nothing to do.
func (e *Evictor) handle(ctx context.Context, l events.Loss) (wait time.Duration, err error) {
	pod, err := e.Client.CoreV1().Pods(l.Namespace).Get(ctx, l.Pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("get the pod: %w", err)
	}
	owner := metav1.GetControllerOf(pod)
	if pod.UID != l.UID || isEnding(pod) || !l.Blind(pod) || owner == nil || isStatic(pod) {
		return 0, nil
	}
	evicts, wait, err := e.evicts(ctx, pod, l)
	if err != nil || !evicts {
		return wait, err
	}
	if wait, err = e.wait(ctx, pod, owner); err != nil || wait > 0 {
		return wait, err
	}
	if !e.announced[l] {
		e.announced[l] = true
		e.recorder.Eventf(pod, corev1.EventTypeNormal, events.ReasonEvicting,
			"The pod has to start again to see volume %s, which node %s has lost: evicting it (recovery: %s).", l.Volume,
			l.Node, schema.RecoveryEvict)
	}
	if err := e.evict(ctx, pod); err != nil {
		return 0, err
	}
	e.workloads.evicted(owner.UID, l.Since.Sub(pod.CreationTimestamp.Time))
	e.Log.Info("evicted a pod with a lost volume", "namespace", l.Namespace, "pod", l.Pod, "node", l.Node,
		"persistentVolume", l.Volume)
	e.recorder.Eventf(&corev1.ObjectReference{
		APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: l.Namespace, Name: owner.Name, UID: owner.UID,
	}, corev1.EventTypeNormal, events.ReasonEvicted,
		"Pod %s was evicted: node %s had lost its volume %s, and a new pod gets it again.", l.Pod, l.Node, l.Volume)
	return 0, nil
}

// evict asks for an eviction, which the API server refuses while a budget does not allow it.
func (e *Evictor) evict(ctx context.Context, pod *corev1.Pod) error {
	err := e.Client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
	})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // it is another pod by now
		return nil
	case apierrors.IsTooManyRequests(err):
		e.recorder.Eventf(pod, corev1.EventTypeWarning, events.ReasonPostponed,
			"A disruption budget of the pod does not allow to evict it yet, which is tried again: change the budget, "+
				"or delete the pod. %v", err)
	}
	if err != nil {
		return fmt.Errorf("evict the pod: %w", err)
	}
	return nil
}
