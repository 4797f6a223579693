// Package retire takes mounters that are to end out of their DaemonSet. They go on, as Terminating, while
// something is mounted through them, and a DaemonSet with two pods on a node counts the older one: its
// update would seem unfinished for as long, to 'kubectl rollout status' and to whoever waits for it.
package retire

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Label is on the pods of mounters; its value is Current on those of the DaemonSet, which selects it, and
// Former on those that were taken out of it.
const (
	Label   = "atoll.storage/mounter"
	Current = "current"
	Former  = "former"
)

// callLimit is how long taking out one pod may take.
const callLimit = 30 * time.Second

// Retirer takes pods out of the DaemonSet. It needs the permissions to get nodes, and to list, watch and
// patch the pods of its namespace.
type Retirer struct {
	Client    kubernetes.Interface
	Namespace string
	Log       logr.Logger
}

// Run takes pods out until ctx ends.
func (r *Retirer) Run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	defer queue.ShutDown()
	factory := informers.NewSharedInformerFactoryWithOptions(r.Client, 0, informers.WithNamespace(r.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = Label }))
	add := func(o any) {
		if pod, is := o.(*corev1.Pod); is && pod.DeletionTimestamp != nil {
			queue.Add(pod.Name)
		}
	}
	if _, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, o any) { add(o) },
	}); err != nil {
		return fmt.Errorf("watch the mounters: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	go func() {
		<-ctx.Done()
		queue.ShutDown()
	}()
	for {
		name, ended := queue.Get()
		if ended {
			return nil
		}
		if err := r.retire(ctx, name); err != nil && ctx.Err() == nil {
			r.Log.V(1).Info("mounter that is to end not taken out of its DaemonSet yet", "pod", name, "error",
				err.Error())
			queue.AddRateLimited(name)
		} else {
			queue.Forget(name)
		}
		queue.Done(name)
	}
}

// retire takes a pod that is to end out of its DaemonSet, in two steps: with another label, the DaemonSet's
// controller releases the pod; that it does so itself makes it count again. Then the pod gets its node as its
// controller: without one, 'kubectl drain' would refuse it.
func (r *Retirer) retire(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	pod, err := r.Client.CoreV1().Pods(r.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && pod.DeletionTimestamp == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get the pod: %w", err)
	}
	if pod.Labels[Label] == Current {
		r.Log.Info("taking a mounter that is to end out of its DaemonSet", "pod", name, "node", pod.Spec.NodeName)
		return r.patch(ctx, pod, map[string]any{"labels": map[string]string{Label: Former}})
	}
	if metav1.GetControllerOf(pod) != nil {
		return nil // it is released soon, which is another event
	}
	node, err := r.Client.CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // the pod goes with it
	}
	if err != nil {
		return fmt.Errorf("get its node: %w", err)
	}
	yes := true
	return r.patch(ctx, pod, map[string]any{"ownerReferences": []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: &yes,
	}}})
}

// patch changes the metadata of a pod, unless it has changed meanwhile.
func (r *Retirer) patch(ctx context.Context, pod *corev1.Pod, metadata map[string]any) error {
	metadata["resourceVersion"] = pod.ResourceVersion
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	_, err = r.Client.CoreV1().Pods(r.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch,
		metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("patch the pod: %w", err)
	}
	return nil
}
