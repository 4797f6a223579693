// Package health finds out how the bricks of a pool are: from its pods, and from the agents
// beside the bricks.
package health

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/explain"
	"github.com/atoll-storage/atoll/schema"
)

// askLimit is how long all agents of a pool may take.
const askLimit = 3 * time.Second

// Brick is one brick.
type Brick struct {
	v1alpha1.BrickStatus
	Pod string // its name, "" when there is none
	UID types.UID
	Set int
	// ReadySince is when its pod became ready.
	ReadySince time.Time
	// HealedSince is since when nothing was to be healed from it, as its agent has seen it, in a pool
	// with a tiebreaker; zero in others, and when that is not known.
	HealedSince time.Time
	// AgentReachable tells that its agent has answered; what follows is from that.
	AgentReachable bool
	Fresh          bool
	Enforced       bool
	Empty          bool
	Size           uint64
	Free           uint64
	Promised       *agent.Promised
}

// Bricks looks at all bricks of a native pool, as they stand in its document.
func Bricks(ctx context.Context, c client.Reader, namespace string, pool *schema.Pool) ([]Brick, error) {
	var all []Brick
	for i, b := range pool.Spec.Bricks {
		set := client.ObjectKey{Namespace: namespace, Name: render.BrickName(pool.Metadata.Name, strconv.Itoa(i))}
		var is appsv1.StatefulSet
		if err := client.IgnoreNotFound(c.Get(ctx, set, &is)); err != nil {
			return nil, fmt.Errorf("looking at brick %d of pool %s: %w", i, pool.Metadata.Name, err)
		}
		update := ""
		if is.Status.ObservedGeneration == is.Generation {
			update = is.Status.UpdateRevision
		}
		pod := &corev1.Pod{}
		err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: set.Name + "-0"}, pod)
		switch {
		case apierrors.IsNotFound(err), err == nil && (pod.DeletionTimestamp != nil || pod.Labels[render.LabelPool] != pool.Metadata.Name):
			pod = nil
		case err != nil:
			return nil, fmt.Errorf("looking at the pod of brick %d of pool %s: %w", i, pool.Metadata.Name, err)
		}
		one := fromPod(pod, update)
		one.Index, one.Node, one.Place, one.Set = i, b.Node, explain.Place(b), i/max(1, pool.Spec.SetSize())
		all = append(all, one)
	}
	ask(ctx, all, pool)
	return all, nil
}

// fromPod tells what the pod of a brick says of it.
func fromPod(p *corev1.Pod, update string) Brick {
	var b Brick
	b.Phase = v1alpha1.PhasePending
	if p == nil {
		b.Message = "there is no pod"
		return b
	}
	b.Pod, b.UID, b.Address = p.Name, p.UID, p.Status.PodIP
	b.Outdated = update != "" && p.Labels[appsv1.ControllerRevisionHashLabelKey] != update
	if p.Spec.NodeName == "" || p.Status.PodIP == "" {
		b.Message = waiting(p)
		return b
	}
	b.Phase = v1alpha1.PhaseStarting
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			b.ReadySince = c.LastTransitionTime.Time
		}
	}
	for _, c := range p.Status.InitContainerStatuses {
		if c.Name == "join" && c.State.Running != nil {
			b.Phase, b.Message = v1alpha1.PhaseJoining, "it is new and waits for the others of its set, or for clients to learn of it"
			return b
		}
	}
	if p.Status.Phase == corev1.PodRunning {
		b.Phase = v1alpha1.PhaseOffline
	}
	b.Message = waiting(p)
	return b
}

// waiting tells what keeps a pod from running.
func waiting(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "the pod has no node: " + c.Message
		}
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if last := c.LastTerminationState.Terminated; c.State.Waiting != nil && last != nil && last.Message != "" {
			return c.Name + ": " + last.Message
		}
		if w := c.State.Waiting; w != nil && w.Reason != "PodInitializing" {
			return fmt.Sprintf("%s: %s %s", c.Name, w.Reason, w.Message)
		}
	}
	// What the kubelet waits for stands in its events alone: a folder that is not there, a
	// ConfigMap, a volume.
	if p.Status.PodIP == "" && p.Status.StartTime != nil && time.Since(p.Status.StartTime.Time) > slow {
		return fmt.Sprintf("node %s does not start its pod: 'kubectl describe pod -n %s %s' says why, such as a folder that is not there", p.Spec.NodeName, p.Namespace, p.Name)
	}
	return ""
}

// slow is after how long a pod that the kubelet does not start is told of.
const slow = 30 * time.Second

// ask adds what the agents say.
func ask(ctx context.Context, all []Brick, pool *schema.Pool) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var addresses []string
	var asked []*Brick
	for i := range all {
		if all[i].Address != "" {
			addresses = append(addresses, net.JoinHostPort(all[i].Address, strconv.Itoa(render.AgentPort)))
			asked = append(asked, &all[i])
		}
	}
	var client agent.Client
	for i, s := range client.Statuses(ctx, addresses...) {
		b := asked[i]
		if s.Err != nil || s.Pool != pool.Metadata.Name || s.Brick != strconv.Itoa(b.Index) {
			if b.Message == "" {
				b.Message = "its agent does not answer"
			}
			continue
		}
		b.AgentReachable, b.Online, b.Fresh, b.Enforced, b.Empty = true, s.Online, s.Fresh, s.Enforced, s.Empty
		b.Backlog, b.SplitBrain, b.Size, b.Free = int64(s.Backlog), int64(s.SplitBrain), s.Size, s.Free
		b.Promised = s.Promised
		if s.Calm != nil && pool.Spec.Tiebreaker != nil { // how long, as clocks need not agree
			b.HealedSince = time.Now().Add(-time.Duration(*s.Calm) * time.Second)
		}
		switch {
		case !s.Online && b.Phase == v1alpha1.PhaseOffline:
			b.Message = "its agent answers, the brick does not"
		case s.Online && pool.Spec.Bricks[b.Index].Decommissioned:
			b.Phase, b.Message = v1alpha1.PhaseLeaving, ""
		case s.Online && s.Fresh:
			b.Phase, b.Message = v1alpha1.PhaseFilling, ""
		case s.Online:
			b.Phase, b.Message = v1alpha1.PhaseOnline, ""
		}
	}
}
