package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/render"
	pooltypes "github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// brickEnv is a pool named fast whose bricks run on this machine. Each brick has an agent at a
// separate address, and a pod in the cluster with that address.
type brickEnv struct {
	*testEnv
	bricks *bricks.Cluster
	agents []*exec.Cmd
	binary string
	atoll  string
	number int64 // of the environment, from 1
}

var brickEnvs atomic.Int64

func newBrickEnv(o *testEnv, n int) *brickEnv {
	o.t.Helper()
	s := &brickEnv{
		testEnv: o, number: brickEnvs.Add(1), bricks: bricks.Start(o.t, pooltypes.Replica3, n, nil),
		binary: build(o.t, o.t.TempDir(), "atoll-brick"),
	}
	for i, b := range s.bricks.Pool.Bricks {
		s.bricks.Eventually("the brick answers", func() bool {
			return gluster.Ping(context.Background(), fmt.Sprintf("127.0.0.1:%d", b.Port)) == nil
		})
		s.agents = append(s.agents, s.bricks.Run(s.binary, "agent", "--namespace=atoll-system", "--pool=fast",
			"--brick="+strconv.Itoa(i),
			"--directory="+b.Directory, "--port="+strconv.Itoa(b.Port),
			"--listen="+s.agentAddress(i)+":"+strconv.Itoa(render.AgentPort), "--keys="+o.t.TempDir()))
	}
	return s
}

// agentAddress returns the address of a brick's agent; no other test uses it.
func (s *brickEnv) agentAddress(brick int) string {
	return fmt.Sprintf("127.9.%d.%d", s.number, brick+1)
}

func (s *brickEnv) createPods(revision string) {
	for i := range s.bricks.Pool.Bricks {
		s.createBrickPod("fast", i, s.agentAddress(i), revision)
	}
}

// TestReconcileBricks reconciles a pool with running bricks: status, rollout, and deletion.
func TestReconcileBricks(t *testing.T) {
	s := newBrickEnv(newTestEnv(t), 3)
	ctx := t.Context()
	s.startReconciler("--roll-deadline=5s")
	s.must(s.put(poolText("fast", 3, ", deletionPolicy: Delete")))
	s.waitCondition("fast", "Ready", "BricksStarting")
	s.createPods("r1")
	ready := s.waitCondition("fast", "Ready", "Applied")
	if ready.Status != "True" || !strings.Contains(ready.Message, "3 of 3 bricks are online") {
		t.Errorf("%+v", ready)
	}
	s.eventually("its status is complete", func() bool {
		return s.get(storagePools,
			"fast").Status.BricksOnline == "3/3"
	})
	p := s.get(storagePools, "fast")
	if len(p.Status.Bricks) != 3 || p.Status.Bricks[1].Phase != "Online" || p.Status.Bricks[1].Node != "n1" ||
		p.Status.Bricks[1].Address != s.agentAddress(1) || p.Status.Backlog != 0 || p.Status.SizeBytes == 0 {
		t.Errorf("%+v", p.Status)
	}
	if c := condition(p, "Healed"); c.Reason != "NothingToHeal" {
		t.Errorf("%+v", c)
	}
	if c := condition(p, "Reconciling"); c.Type != "" {
		t.Errorf("%+v", c)
	}
	t.Run("listed", func(t *testing.T) {
		var table metav1.Table
		text, err := s.typed.Discovery().RESTClient().Get().AbsPath("/apis/atoll.storage/v1alpha1/namespaces/atoll-system/storagepools").
			SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
		s.must(err)
		s.must(json.Unmarshal(text, &table))
		var head []string
		for _, c := range table.ColumnDefinitions {
			head = append(head, c.Name)
		}
		if got := strings.Join(head, ","); got != "Name,Type,Bricks,To heal,Volumes,Age,Ready,Status" ||
			len(table.Rows) != 1 {
			t.Fatalf("%s, %d rows", got, len(table.Rows))
		}
		if got := fmt.Sprint(table.Rows[0].Cells[:5]); got != "[fast Replica3 3/3 0 0]" {
			t.Error(got)
		}
	})
	t.Run("a brick stops", func(t *testing.T) {
		printed := s.watchPools()
		bricks.Stop(s.bricks.Bricks[1])
		c := s.waitCondition("fast", "Ready", "BricksAway")
		if !strings.Contains(c.Message, "brick 1 (n1:/fast) is offline: its agent responds, the brick does not") {
			t.Errorf("%+v", c)
		}
		for _, want := range []string{"fast", "Replica3", "2/3", "BricksAway"} {
			if out := s.runAtoll("get"); !strings.Contains(out, want) {
				t.Errorf("%s is missing in:\n%s", want, out)
			}
		}
		out := s.runAtoll("status", "fast")
		if !strings.Contains(out, "1      n1    n1:/fast") ||
			!strings.Contains(out, "its agent responds, the brick does not") {
			t.Errorf("%s", out)
		}
		t.Logf("\n%s\n%s", s.runAtoll("get"), out)
		s.eventually("the watch has printed both states",
			func() bool { return strings.Contains(printed(), "3/3") && strings.Contains(printed(), "2/3") })
		s.bricks.StartBrick(1)
		s.waitCondition("fast", "Ready", "Applied")
	})
	t.Run("restarted one at a time", func(t *testing.T) { s.checkRollout(ctx) })
	t.Run("restarted without healing", func(t *testing.T) {
		file := s.addPendingHeal(2)
		s.eventually("the pending heal is in the status",
			func() bool { return s.get(storagePools, "fast").Status.Backlog == 1 })
		s.setUpdateRevision(ctx, "r3")
		c := s.waitCondition("fast", "Ready", "RollingWaits")
		if !strings.Contains(c.Message, "roll-without-healing") {
			t.Errorf("%+v", c)
		}
		s.patch(storagePools, "fast",
			fmt.Sprintf(`{"metadata":{"annotations":{"atoll.storage/roll-without-healing":%q}}}`,
				s.get(storagePools, "fast").Status.LastAppliedRevision))
		s.waitRolledOneByOne(ctx, "r3")
		s.must(os.Remove(file))
		s.waitCondition("fast", "Ready", "Applied")
	})
	t.Run("deleted", func(t *testing.T) { s.checkDeletion(ctx) })
}

// addPendingHeal makes a brick report a pending heal, as after another brick was offline.
func (s *brickEnv) addPendingHeal(brick int) (file string) {
	s.t.Helper()
	dir := filepath.Join(s.bricks.Pool.Bricks[brick].Directory, ".glusterfs/indices/xattrop")
	s.must(os.MkdirAll(dir, 0o700))
	file = filepath.Join(dir, "5d3b9a2e-0a3e-4c6c-9c2b-2f0d8d0a0b0c")
	s.must(os.WriteFile(file, nil, 0o600))
	return file
}

// checkRollout makes all brick pods outdated while a heal is pending: none is restarted until it is
// healed, and then one at a time.
func (s *brickEnv) checkRollout(ctx context.Context) {
	s.t.Helper()
	file := s.addPendingHeal(2)
	s.eventually("the pending heal is in the status", func() bool {
		return s.get(storagePools,
			"fast").Status.Backlog == 1
	})
	s.setUpdateRevision(ctx, "r2")
	s.eventually("the condition explains why no brick is restarted", func() bool {
		c := condition(s.get(storagePools, "fast"), "Ready")
		return strings.HasPrefix(c.Reason, "Rolling") && strings.Contains(c.Message, "3 bricks are to be restarted") &&
			strings.Contains(c.Message, "1 heals are pending on brick 2")
	})
	s.reconcileAgain("fast")
	if stopped := s.stoppedBricks(ctx); len(stopped) != 0 {
		s.t.Errorf("restarted while a heal is pending: %v", stopped)
	}
	s.must(os.Remove(file))
	s.waitRolledOneByOne(ctx, "r2")
}

// setUpdateRevision sets another update revision in the status of all bricks' StatefulSets.
func (s *brickEnv) setUpdateRevision(ctx context.Context, revision string) {
	s.t.Helper()
	sets := s.typed.AppsV1().StatefulSets(pooltypes.DefaultNamespace)
	for i := range 3 {
		set, err := sets.Get(ctx, fmt.Sprintf("atoll-fast-%d", i), metav1.GetOptions{})
		s.must(err)
		set.Status.ObservedGeneration, set.Status.Replicas = set.Generation, 1
		set.Status.UpdateRevision, set.Status.CurrentRevision = revision, "r1"
		_, err = sets.UpdateStatus(ctx, set, metav1.UpdateOptions{})
		s.must(err)
	}
}

// waitRolledOneByOne waits until all bricks are restarted, never two at a time.
func (s *brickEnv) waitRolledOneByOne(ctx context.Context, revision string) {
	s.t.Helper()
	for i := range 3 {
		var stopped []int
		s.eventually("a brick is restarted", func() bool { stopped = s.stoppedBricks(ctx); return len(stopped) > 0 })
		s.reconcileAgain("fast")
		if stopped = s.stoppedBricks(ctx); len(stopped) != 1 || stopped[0] != i {
			s.t.Errorf("restarted: %v, want only brick %d", stopped, i)
		}
		for _, brick := range stopped {
			s.deletePod(ctx, brick)
			s.createBrickPod("fast", brick, s.agentAddress(brick), revision)
		}
	}
	s.waitCondition("fast", "Ready", "Applied")
}

// stoppedBricks returns the bricks whose pods are deleted, or terminating: no kubelet stops them here.
func (s *brickEnv) stoppedBricks(ctx context.Context) (all []int) {
	for i := range 3 {
		pod, err := s.typed.CoreV1().Pods(pooltypes.DefaultNamespace).Get(ctx, fmt.Sprintf("atoll-fast-%d-0", i),
			metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && pod.DeletionTimestamp != nil {
			all = append(all, i)
		}
	}
	return all
}

// deletePod deletes the pod of a brick at once.
func (s *brickEnv) deletePod(ctx context.Context, brick int) {
	s.t.Helper()
	now := int64(0)
	err := s.typed.CoreV1().Pods(pooltypes.DefaultNamespace).Delete(ctx, fmt.Sprintf("atoll-fast-%d-0", brick),
		metav1.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil && !apierrors.IsNotFound(err) {
		s.t.Fatal(err)
	}
}

// checkDeletion deletes the pool while it has a volume, and then while a brick has a file.
func (s *brickEnv) checkDeletion(ctx context.Context) {
	s.t.Helper()
	volumes := s.typed.CoreV1().PersistentVolumes()
	_, err := volumes.Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "v"},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: "atoll.fast", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: pooltypes.DriverName, VolumeHandle: "v1.dir.fast.v"},
			},
		},
	}, metav1.CreateOptions{})
	s.must(err)
	s.eventually("the volume is counted", func() bool { return s.get(storagePools, "fast").Status.Volumes == 1 })
	file := filepath.Join(s.bricks.Pool.Bricks[1].Directory, "leftover")
	s.must(os.WriteFile(file, nil, 0o600))
	s.must(s.dynamic.Resource(storagePools).Namespace(pooltypes.DefaultNamespace).Delete(ctx, "fast",
		metav1.DeleteOptions{}))
	c := s.waitCondition("fast", "Ready", "VolumesInUse")
	if !strings.Contains(c.Message, "1 persistent volumes use it") {
		s.t.Errorf("%+v", c)
	}
	s.must(volumes.Delete(ctx, "v", metav1.DeleteOptions{}))
	_, _ = volumes.Patch(ctx, "v", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`),
		metav1.PatchOptions{}) // it may be deleted already
	s.eventually("the condition reports the files", func() bool {
		return strings.Contains(condition(s.get(storagePools, "fast"), "Ready").Message,
			"brick 1 (n1:/fast) has files that belong to no persistent volume")
	})
	if sets, err := s.typed.AppsV1().StatefulSets(pooltypes.DefaultNamespace).List(ctx,
		metav1.ListOptions{}); err != nil || len(sets.Items) != 3 {
		s.t.Errorf("%d bricks, %v", len(sets.Items), err)
	}
	s.must(os.Remove(file))
	s.eventually("the pool is deleted", func() bool { return s.get(storagePools, "fast") == nil })
	sets, err := s.typed.AppsV1().StatefulSets(pooltypes.DefaultNamespace).List(ctx, metav1.ListOptions{})
	s.must(err)
	maps, err := s.typed.CoreV1().ConfigMaps(pooltypes.DefaultNamespace).List(ctx,
		metav1.ListOptions{LabelSelector: "atoll.storage/pool=fast"})
	s.must(err)
	classes, err := s.typed.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	s.must(err)
	if len(sets.Items)+len(maps.Items)+len(classes.Items) > 0 {
		s.t.Errorf("left over: %d StatefulSets, %d ConfigMaps, %d classes", len(sets.Items), len(maps.Items),
			len(classes.Items))
	}
	if _, err := os.Stat(filepath.Join(s.bricks.Pool.Bricks[1].Directory, ".glusterfs")); err != nil {
		s.t.Error("the brick's data was deleted with the pool")
	}
}

// runAtoll runs the command line against the cluster, and returns its output.
func (s *brickEnv) runAtoll(args ...string) string {
	s.t.Helper()
	if s.atoll == "" {
		s.atoll = build(s.t, s.t.TempDir(), "atoll") // before the timeout starts
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, s.atoll, append(args, "--kubeconfig", s.kubeconfig)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// watchPools runs the command line's watch until the test ends; the result returns its output so far.
func (s *brickEnv) watchPools() func() string {
	s.t.Helper()
	s.runAtoll("get") // builds it
	path := filepath.Join(s.t.TempDir(), "output")
	out, err := os.Create(path)
	s.must(err)
	defer out.Close()
	cmd := exec.Command(s.atoll, "get", "--watch", "--kubeconfig", s.kubeconfig)
	cmd.Stdout = out
	s.must(cmd.Start())
	printed := func() string {
		text, err := os.ReadFile(path)
		s.must(err)
		return string(text)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	s.eventually("the watch has started", func() bool { return printed() != "" })
	return printed
}
