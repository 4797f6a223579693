package apiserver

import (
	"context"
	"testing"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/atoll-storage/atoll/csi/retire"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// TestMounterRetires: a mounter that is deleted, and goes on, leaves its DaemonSet and belongs to its node;
// others stay.
func TestMounterRetires(t *testing.T) {
	c := connect(t, start(t))
	ctx, cancel := context.WithTimeout(t.Context(), 10*await.Limit)
	node, err := c.typed.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}},
		metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := &retire.Retirer{Client: c.typed, Namespace: schema.DefaultNamespace, Log: testr.New(t)}
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	pods := c.typed.CoreV1().Pods(schema.DefaultNamespace)
	yes, grace := true, int64(3600)
	for _, name := range []string{"former", "current"} {
		_, err := pods.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Labels: map[string]string{retire.Label: retire.Current, "other": "label"},
				OwnerReferences: []metav1.OwnerReference{{
					APIVersion: "apps/v1", Kind: "DaemonSet", Name: "atoll-csi-mounter", UID: "uid", Controller: &yes,
				}},
			},
			Spec: corev1.PodSpec{
				NodeName: "n1", TerminationGracePeriodSeconds: &grace,
				Containers: []corev1.Container{{Name: "mounter", Image: "x"}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := pods.Delete(ctx, "former", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	get := func(name string) *corev1.Pod {
		t.Helper()
		pod, err := pods.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return pod
	}
	await.True(t, "the pod that ends has the other label", func() bool {
		return get("former").Labels[retire.Label] == retire.Former
	})
	if by := metav1.GetControllerOf(get("former")); by == nil || by.Kind != "DaemonSet" {
		t.Fatalf("the pod belongs to %v before it was released", by)
	}
	release := []byte(`{"metadata": {"ownerReferences": null}}`) // as the controller of DaemonSets does
	if _, err := pods.Patch(ctx, "former", types.MergePatchType, release, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the pod that ends belongs to its node", func() bool {
		pod := get("former")
		by := metav1.GetControllerOf(pod)
		return pod.Labels[retire.Label] == retire.Former && pod.Labels["other"] == "label" && by != nil &&
			by.Kind == "Node" && by.UID == node.UID && len(pod.OwnerReferences) == 1
	})
	pod := get("current")
	if pod.Labels[retire.Label] != retire.Current || metav1.GetControllerOf(pod).Kind != "DaemonSet" {
		t.Errorf("the other pod: %+v", pod.ObjectMeta)
	}
}
