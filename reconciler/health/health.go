// Package health determines the state of a pool's bricks, from their pods and from the agents in
// these pods.
package health

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
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

// agentsTimeout bounds the query of all agents of a pool.
const agentsTimeout = 3 * time.Second

// Brick is the state of one brick.
type Brick struct {
	v1alpha1.BrickStatus
	Pod string // the name of its pod, "" when it has none
	UID types.UID
	Set int
	// ReadySince is when its pod became ready.
	ReadySince time.Time
	// HealedSince is since when its agent has seen no pending heals, in a pool with a tiebreaker.
	// It is zero in other pools, and when it is unknown.
	HealedSince time.Time
	// AgentReachable reports that its agent has responded. The fields below come from the response.
	AgentReachable bool
	Fresh          bool
	Enforced       bool
	Empty          bool
	Size           uint64
	Free           uint64
	Promised       *agent.Promised
}

// Bricks returns the state of all bricks of a native pool, in the order of its document.
func Bricks(ctx context.Context, c client.Reader, namespace string, pool *schema.Pool) ([]Brick, error) {
	var all []Brick
	for i, b := range pool.Spec.Bricks {
		key := client.ObjectKey{Namespace: namespace, Name: render.BrickName(pool.Metadata.Name, strconv.Itoa(i))}
		var set appsv1.StatefulSet
		if err := client.IgnoreNotFound(c.Get(ctx, key, &set)); err != nil {
			return nil, fmt.Errorf("get StatefulSet of brick %d of pool %s: %w", i, pool.Metadata.Name, err)
		}
		updateRevision := ""
		if set.Status.ObservedGeneration == set.Generation {
			updateRevision = set.Status.UpdateRevision
		}
		pod := &corev1.Pod{}
		err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: key.Name + "-0"}, pod)
		switch {
		case apierrors.IsNotFound(err):
			pod = nil
		case err != nil:
			return nil, fmt.Errorf("get pod of brick %d of pool %s: %w", i, pool.Metadata.Name, err)
		case pod.DeletionTimestamp != nil || pod.Labels[render.LabelPool] != pool.Metadata.Name:
			pod = nil
		}
		brick := fromPod(pod, updateRevision)
		brick.Index, brick.Node, brick.Place, brick.Set = i, b.Node, explain.Place(b), i/max(1, pool.Spec.SetSize())
		all = append(all, brick)
	}
	queryAgents(ctx, all, pool)
	return all, nil
}

// fromPod derives the state of a brick from its pod, nil when it has none.
func fromPod(p *corev1.Pod, updateRevision string) Brick {
	var b Brick
	b.Phase = v1alpha1.PhasePending
	if p == nil {
		b.Message = "its pod does not exist"
		return b
	}
	b.Pod, b.UID, b.Address = p.Name, p.UID, p.Status.PodIP
	b.Outdated = updateRevision != "" && p.Labels[appsv1.ControllerRevisionHashLabelKey] != updateRevision
	if p.Spec.NodeName == "" || p.Status.PodIP == "" {
		b.Message = waitReason(p)
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
			b.Phase = v1alpha1.PhaseJoining
			b.Message = fmt.Sprintf("it waits for the other bricks of its set, or for clients to load the new volfile: "+
				"'kubectl logs -n %s %s -c join' says for which", p.Namespace, p.Name)
			if reason := waitReason(p); reason != "" { // it has failed before
				b.Phase, b.Message = v1alpha1.PhaseStarting, reason
			}
			return b
		}
	}
	if p.Status.Phase == corev1.PodRunning {
		b.Phase = v1alpha1.PhaseOffline
	}
	b.Message = waitReason(p)
	return b
}

// waitReason returns what keeps a pod from running, "" when nothing is known.
func waitReason(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "its pod is not scheduled: " + c.Message
		}
	}
	for _, c := range p.Status.InitContainerStatuses {
		if message := failure(c); message != "" {
			return c.Name + ": " + message
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
	// What the kubelet waits for, such as a directory, a ConfigMap or a volume, is only in its events.
	if p.Status.PodIP == "" && p.Status.StartTime != nil && time.Since(p.Status.StartTime.Time) > slowStart {
		return fmt.Sprintf("node %s has not started its pod: "+
			"'kubectl describe pod -n %s %s' shows why, such as a missing directory",
			p.Spec.NodeName, p.Namespace, p.Name)
	}
	return ""
}

// failure returns why an init container has failed, also while it is restarted; "" if it has not, or
// left no message.
func failure(c corev1.ContainerStatus) string {
	ended := c.State.Terminated
	if ended == nil {
		ended = c.LastTerminationState.Terminated
	}
	if ended == nil || ended.ExitCode == 0 || c.Started != nil && *c.Started && c.Ready {
		return ""
	}
	return ended.Message
}

// slowStart is how long the kubelet may take to start a pod before the brick's message says so.
const slowStart = 30 * time.Second

// queryAgents adds the status reported by the agents.
func queryAgents(ctx context.Context, all []Brick, pool *schema.Pool) {
	ctx, cancel := context.WithTimeout(ctx, agentsTimeout)
	defer cancel()
	var addresses []string
	var queried []*Brick
	for i := range all {
		if all[i].Address != "" {
			addresses = append(addresses, net.JoinHostPort(all[i].Address, strconv.Itoa(render.AgentPort)))
			queried = append(queried, &all[i])
		}
	}
	var client agent.Client
	for i, s := range client.Statuses(ctx, addresses...) {
		b := queried[i]
		if s.Err != nil || s.Pool != pool.Metadata.Name || s.Brick != strconv.Itoa(b.Index) {
			if b.Message == "" {
				b.Message = "its agent does not respond"
			}
			continue
		}
		b.AgentReachable, b.Online, b.Fresh, b.Enforced, b.Empty = true, s.Online, s.Fresh, s.Enforced, s.Empty
		b.Backlog, b.SplitBrain, b.Size, b.Free = int64(s.Backlog), int64(s.SplitBrain), s.Size, s.Free
		b.Promised = s.Promised
		if s.Calm != nil && pool.Spec.Tiebreaker != nil { // a duration, because clocks may differ
			b.HealedSince = time.Now().Add(-time.Duration(*s.Calm) * time.Second)
		}
		switch {
		case !s.Online && b.Phase == v1alpha1.PhaseOffline:
			b.Message = "its agent responds, the brick does not"
		case s.Online && pool.Spec.Bricks[b.Index].Decommissioned:
			b.Phase, b.Message = v1alpha1.PhaseLeaving, ""
		case s.Online && s.Fresh:
			b.Phase, b.Message = v1alpha1.PhaseFilling, ""
		case s.Online:
			b.Phase, b.Message = v1alpha1.PhaseOnline, ""
		}
		if crashed := crashText(s.Crashes); b.Message == "" {
			b.Message = crashed
		} else if crashed != "" {
			b.Message += "; " + crashed
		}
	}
}

// crashText tells of the daemons that have crashed recently, "" if none has. It is the same until one
// crashes again: each new text is a write to the API server.
func crashText(all []agent.Crashes) string {
	var texts []string
	for _, c := range all {
		times := "once,"
		if c.Count > 1 {
			times = fmt.Sprintf("%d times, last", c.Count)
		}
		texts = append(texts, fmt.Sprintf("%s crashed %s at %s (%s); it is started again each time", c.Daemon, times,
			c.Last.UTC().Format(time.DateTime+" UTC"), c.Reason))
	}
	return strings.Join(texts, "; ")
}
