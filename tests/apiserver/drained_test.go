package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
)

// decommission decommissions the bricks of a pool after its first replica set.
func (c *commandLine) decommission(name string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name+".yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 3; i < 9; i++ {
		brick := fmt.Sprintf("{node: n%d, path: /%s", i, name)
		text = []byte(strings.Replace(string(text), brick, brick+", decommissioned: true", 1))
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// allPodsReady is the status of a rebalance Deployment whose files are all in place.
var allPodsReady = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}

// rebalanced sets the status of the rebalance Deployment, as of so many generations ago: no
// controller does that here.
func (c *cluster) rebalanced(pool string, ago int64, status appsv1.DeploymentStatus) {
	c.t.Helper()
	deployments := c.typed.AppsV1().Deployments(schema.DefaultNamespace)
	d, err := deployments.Get(c.t.Context(), render.RebalanceName(pool), metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	d.Status = status
	d.Status.ObservedGeneration = d.Generation - ago
	if _, err := deployments.UpdateStatus(c.t.Context(), d, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// TestRemoveDrainedBricks removes decommissioned sets: only when the rebalance reports that it is
// done, and only when it reports that for the document that decommissions them.
func TestRemoveDrainedBricks(t *testing.T) {
	c := newCommandLine(t, start(t))
	const (
		pool     = "drained"
		nothing  = "suspend: false"
		notEmpty = "not-drained"
	)
	c.writePool(pool, 9, nothing)
	c.mustRun()
	c.rebalanced(pool, 0, allPodsReady)
	c.checkRefused(pool, 6, "brick-removed")

	decommission := func() {
		t.Helper()
		c.writePool(pool, 9, nothing)
		c.decommission(pool)
		c.mustRun()
	}
	// remove removes the last set, and leaves the second one decommissioned.
	remove := func(bricks int) (map[apply.Action][]apply.Change, string, error) {
		t.Helper()
		c.writePool(pool, bricks, nothing)
		c.decommission(pool)
		return c.run()
	}
	refused := func(why string) {
		t.Helper()
		if changes, stderr, err := remove(6); err == nil || !strings.Contains(stderr, notEmpty) ||
			len(changes) > 0 {
			t.Errorf("%s: %v, %v\n%s", why, changes, err, stderr)
		}
	}
	decommission()
	refused("the rebalance was done with the former document")
	for why, d := range map[string]struct {
		ago    int64
		status appsv1.DeploymentStatus
	}{
		"the controller has not seen the new template": {1, allPodsReady},
		"the pod of the former template is still ready": {
			0, appsv1.DeploymentStatus{Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1},
		},
		"which of two pods is ready is unknown": {
			0, appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1},
		},
		"the new pod is not ready": {0, appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1}},
		"there is no pod":          {0, appsv1.DeploymentStatus{}},
	} {
		c.rebalanced(pool, d.ago, d.status)
		refused(why)
	}

	deployments := c.typed.AppsV1().Deployments(schema.DefaultNamespace)
	d, err := deployments.Get(t.Context(), render.RebalanceName(pool), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	command := d.Spec.Template.Spec.Containers[0].Command
	for i, argument := range command {
		if strings.HasPrefix(argument, "--layout=") {
			command[i] = "--layout=7" // as if applying the document had been interrupted
		}
	}
	if _, err := deployments.Update(t.Context(), d, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.rebalanced(pool, 0, allPodsReady)
	refused("the Deployment is for another layout")
	if err := deployments.Delete(t.Context(), d.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	refused("the Deployment is missing")

	decommission()
	c.rebalanced(pool, 0, allPodsReady)
	if changes, stderr, err := remove(6); err != nil {
		t.Fatalf("one of two drained sets: %v, %v\n%s", changes, err, stderr)
	}
	c.checkRefused(pool, 3, notEmpty)
	c.rebalanced(pool, 0, allPodsReady)
	if changes, stderr, err := remove(3); err != nil {
		t.Fatalf("the other drained set: %v, %v\n%s", changes, err, stderr)
	}
	if _, err := deployments.Get(t.Context(), d.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a pool of one set has a rebalance Deployment: %v", err)
	}
}

// TestEarlyRemoval removes bricks from the document before they are empty: the reconciler refuses
// that, also after a restart, and applies it when the rebalance is done.
func TestEarlyRemoval(t *testing.T) {
	o := newTestEnv(t)
	p := o.startReconciler()
	deployments := o.typed.AppsV1().Deployments(schema.DefaultNamespace)
	generation := func() int64 {
		d, err := deployments.Get(t.Context(), render.RebalanceName("early"), metav1.GetOptions{})
		if err != nil {
			return 0
		}
		return d.Generation
	}
	o.must(o.put(poolText("early", 6, "")))
	o.eventually("the pool is applied", func() bool { return generation() == 1 })
	o.rebalanced("early", 0, allPodsReady)
	leaving := poolText("early", 6, "")
	for i := 3; i < 6; i++ {
		leaving = strings.Replace(leaving, fmt.Sprintf("n%d,", i), fmt.Sprintf("n%d, decommissioned: true,", i), 1)
	}
	o.must(o.put(leaving))
	o.eventually("the rebalance is for the other layout", func() bool { return generation() == 2 })
	o.must(o.put(poolText("early", 3, "")))
	for range 2 {
		refused := o.waitCondition("early", "Ready", "ChangeRefused")
		if !strings.Contains(refused.Message, "not-drained") {
			t.Errorf("%+v", refused)
		}
		p.end(syscall.SIGKILL)
		p = o.startReconciler()
		o.reconcileAgain("early")
	}
	if generation() != 2 {
		t.Error("the bricks were removed")
	}
	o.rebalanced("early", 0, allPodsReady)
	o.eventually("the bricks are removed", func() bool { return generation() == 0 })
}
