package apiserver

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/events"
	"github.com/atoll-storage/atoll/csi/evict"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// apps is a namespace with pods, whose controllers and kubelets the tests play.
type apps struct {
	*testing.T
	pools catalog.Folder
	kubernetes.Interface
	ctx context.Context
}

const appsNamespace = "apps"

// newApps starts an API server with a namespace and an Evictor.
func newApps(t *testing.T, limits evict.Limits) *apps {
	t.Helper()
	c := connect(t, start(t))
	ctx, cancel := context.WithTimeout(t.Context(), 10*await.Limit)
	a := &apps{t, catalog.Folder{Dir: t.TempDir()}, c.typed, ctx}
	_, err := a.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: appsNamespace}}, metav1.CreateOptions{})
	a.must(err)
	a.pool("fast", "")
	a.pool("quiet", schema.RecoveryTell)
	e := &evict.Evictor{Client: c.typed, Catalog: a.pools, Log: testr.New(t), Limits: limits}
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return a
}

// pool writes a pool with a recovery into the catalog.
func (a *apps) pool(name string, recovery schema.Recovery) {
	a.Helper()
	text, err := entry.Encode(entry.Entry{
		Pool: name, Namespace: "atoll-system", Type: schema.Replica1, Layouts: []schema.Layout{schema.Subdirectory},
		Recovery: recovery, SetSize: 1, Bricks: []entry.Brick{{Host: "h", Port: 24007, Directory: "/b"}},
	})
	a.must(err)
	_, err = a.pools.Write(name, map[string]string{entry.KeyEntry: string(text)})
	a.must(err)
}

func (a *apps) must(err error) {
	a.Helper()
	if err != nil {
		a.Fatal(err)
	}
}

// claim creates a claim and its volume, in a pool.
func (a *apps) claim(name, pool string, attributes map[string]string) {
	a.Helper()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}
	_, err := a.CoreV1().PersistentVolumeClaims(appsNamespace).Create(a.ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			VolumeName: "pv-" + name, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	}, metav1.CreateOptions{})
	a.must(err)
	_, err = a.CoreV1().PersistentVolumes().Create(a.ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			ClaimRef: &corev1.ObjectReference{Namespace: appsNamespace, Name: name},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: schema.DriverName, VolumeHandle: "v1.dir." + pool + "." + name, VolumeAttributes: attributes,
			}},
		},
	}, metav1.CreateOptions{})
	a.must(err)
}

// pod creates a pod on node n1 that uses a claim. Its container has started at a time.
func (a *apps) pod(name, owner, claim string, ready bool, started time.Time) *corev1.Pod {
	a.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": owner}},
		Spec: corev1.PodSpec{
			NodeName: "n1",
			Containers: []corev1.Container{{
				Name: "main", Image: "x", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
			}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
			}}},
		},
	}
	if owner != "" {
		yes := true
		pod.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID("uid-of-" + owner), Controller: &yes,
		}}
	}
	pods := a.CoreV1().Pods(appsNamespace)
	pod, err := pods.Create(a.ctx, pod, metav1.CreateOptions{})
	a.must(err)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{
			StartedAt: metav1.NewTime(started),
		}},
	}}}
	pod, err = pods.UpdateStatus(a.ctx, pod, metav1.UpdateOptions{})
	a.must(err)
	if ready {
		a.becomesReady(pod)
	}
	return pod
}

func (a *apps) becomesReady(pod *corev1.Pod) {
	a.Helper()
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	_, err := a.CoreV1().Pods(appsNamespace).UpdateStatus(a.ctx, pod, metav1.UpdateOptions{})
	a.must(err)
}

// loses reports, as the plugin of a node does, that the client of a pod's volume has died.
func (a *apps) loses(node string, pod *corev1.Pod, claim string) {
	a.Helper()
	r := events.New(a.Interface, node, testr.New(a.T))
	defer r.Close()
	a.must(r.ClientDied(a.ctx, string(pod.UID), "pv-"+claim, time.Now(), nil))
	await.True(a.T, "the event of "+pod.Name+" is written", func() bool {
		return len(a.events(pod.Name, events.ReasonLost)) > 0
	})
}

// events lists the events with a reason of an object.
func (a *apps) events(name, reason string) []corev1.Event {
	a.Helper()
	all, err := a.CoreV1().Events(appsNamespace).List(a.ctx, metav1.ListOptions{FieldSelector: fields.SelectorFromSet(
		fields.Set{"involvedObject.name": name, "reason": reason}).String()})
	a.must(err)
	return all.Items
}

// evicted reports whether a pod is ending.
func (a *apps) evicted(name string) bool {
	a.Helper()
	pod, err := a.CoreV1().Pods(appsNamespace).Get(a.ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true
	}
	a.must(err)
	return pod.DeletionTimestamp != nil
}

func (a *apps) waitEvicted(name string) {
	a.Helper()
	await.True(a.T, name+" is evicted", func() bool { return a.evicted(name) })
}

// ends removes an evicted pod, as its kubelet does when its containers have ended.
func (a *apps) ends(name string) {
	a.Helper()
	now := int64(0)
	a.must(a.CoreV1().Pods(appsNamespace).Delete(a.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

var quick = evict.Limits{
	FirstRetry: 20 * time.Millisecond, LongestRetry: 100 * time.Millisecond, Settle: 50 * time.Millisecond,
	Turn: time.Hour, Young: time.Hour, LongestPause: 50 * time.Millisecond, AskAgain: 50 * time.Millisecond,
}

// TestEvictOneByOne: of the pods of a workload that have lost a volume, one is evicted after the other,
// the next when its successor is ready. Both are announced.
func TestEvictOneByOne(t *testing.T) {
	a := newApps(t, quick)
	a.claim("data", "fast", nil)
	long := time.Now().Add(-time.Hour)
	first, second := a.pod("web-1", "web", "data", true, long), a.pod("web-2", "web", "data", true, long)
	other := a.pod("db-1", "db", "data", true, long)
	a.loses("n1", first, "data")
	a.waitEvicted("web-1")
	a.loses("n1", second, "data")
	a.loses("n1", other, "data")
	a.waitEvicted("db-1") // another workload does not wait
	if a.evicted("web-2") {
		t.Fatal("web-2 is evicted while web-1 ends")
	}
	successor := a.pod("web-3", "web", "data", false, time.Now())
	a.ends("web-1")
	third := a.pod("cache-1", "cache", "data", true, long)
	a.loses("n1", third, "data")
	a.waitEvicted("cache-1")
	if a.evicted("web-2") {
		t.Fatal("web-2 is evicted before the successor of web-1 is ready")
	}
	a.becomesReady(successor)
	a.waitEvicted("web-2")
	await.True(t, "both evictions are announced", func() bool {
		return len(a.events("web-1", events.ReasonEvicting)) == 1 &&
			len(a.events("web-2", events.ReasonEvicting)) == 1 && len(a.events("web", events.ReasonEvicted)) == 2
	})
}

// TestEvictNobody: pods that nobody would create again, or whose class or pool says so, or that need no
// restart, are left alone, and so are those that the event of another node or volume names.
func TestEvictNobody(t *testing.T) {
	a := newApps(t, quick)
	a.claim("data", "fast", nil)
	a.claim("told", "fast", map[string]string{schema.ParameterRecovery: string(schema.RecoveryTell)})
	a.claim("quiet", "quiet", nil)
	a.claim("loud", "quiet", map[string]string{schema.ParameterRecovery: string(schema.RecoveryEvict)})
	long := time.Now().Add(-time.Hour)
	a.loses("n1", a.pod("bare", "", "data", true, long), "data")
	a.loses("n1", a.pod("told-1", "told", "told", true, long), "told")
	a.loses("n1", a.pod("quiet-1", "quiet", "quiet", true, long), "quiet")
	a.loses("n1", a.pod("again-1", "again", "data", true, time.Now().Add(time.Hour)), "data")
	alone := []string{"bare", "told-1", "quiet-1", "again-1", "forged-1", "stranger-1"}
	real := a.pod("loud-1", "loud", "loud", true, long)
	a.loses("n1", real, "loud")
	a.waitEvicted("loud-1")
	// The events of nodes that do not have the pod, and about volumes that it does not use.
	forged := a.events("loud-1", events.ReasonLost)[0]
	forge := func(pod, claim string, change func(e *corev1.Event)) {
		one := a.pod(pod, pod, claim, true, long)
		e := forged.DeepCopy()
		e.ObjectMeta = metav1.ObjectMeta{Name: pod, Namespace: appsNamespace, Annotations: forged.Annotations}
		e.InvolvedObject.Name, e.InvolvedObject.UID = one.Name, one.UID
		change(e)
		_, err := a.CoreV1().Events(appsNamespace).Create(a.ctx, e, metav1.CreateOptions{})
		a.must(err)
	}
	forge("forged-1", "loud", func(e *corev1.Event) { e.Source.Host = "n2" })
	forge("stranger-1", "data", func(*corev1.Event) {})
	forge("last-1", "loud", func(*corev1.Event) {}) // it could be real
	a.waitEvicted("last-1")
	for _, name := range alone {
		if a.evicted(name) {
			t.Errorf("%s is evicted", name)
		}
	}
	a.pool("quiet", schema.RecoveryEvict)
	a.waitEvicted("quiet-1") // which has lost its volume before
	if a.evicted("told-1") {
		t.Error("told-1 is evicted, against its class")
	}
}

// TestEvictionWaitsForBudget: while a disruption budget does not allow it, the pod stays and an event
// says why; then it is evicted.
func TestEvictionWaitsForBudget(t *testing.T) {
	a := newApps(t, quick)
	a.claim("data", "fast", nil)
	budgets := a.PolicyV1().PodDisruptionBudgets(appsNamespace)
	b, err := budgets.Create(a.ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		},
	}, metav1.CreateOptions{})
	a.must(err)
	allow := func(disruptions int32) {
		b.Status = policyv1.PodDisruptionBudgetStatus{
			ObservedGeneration: b.Generation, DisruptionsAllowed: disruptions, CurrentHealthy: 1, ExpectedPods: 1,
		}
		b, err = budgets.UpdateStatus(a.ctx, b, metav1.UpdateOptions{})
		a.must(err)
	}
	allow(0)
	a.loses("n1", a.pod("web-1", "web", "data", true, time.Now().Add(-time.Hour)), "data")
	await.True(t, "the eviction is postponed",
		func() bool { return len(a.events("web-1", events.ReasonPostponed)) > 0 })
	if a.evicted("web-1") {
		t.Error("the pod is evicted against its budget")
	}
	allow(1)
	a.waitEvicted("web-1")
}
