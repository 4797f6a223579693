package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestBlock uses block volumes, on a pool that serves subdirectories too.
func TestBlock(t *testing.T) {
	onlyFull(t)
	base := boot(t)
	base.apply(poolDocument("blocks", `
  type: Replica3
  bricks:
  - {node: n1, device: /dev/disk/by-id/disk-8}
  - {node: n2, device: /dev/disk/by-id/disk-8}
  - {node: n3, device: /dev/disk/by-id/disk-8}
  volumes: [Subdirectory, Block]
  storageClasses:
  - {name: ext4, layout: Block, parameters: {csi.storage.k8s.io/fstype: ext4}}`+small))
	base.waitHealthy("blocks")
	for _, one := range []struct {
		name string
		test func(*env)
	}{
		{"one node at a time", attachedToOneNode},
		{"raw", raw},
		{"fsGroup", blockGroup},
		{"snapshots and clones", snapshotAndClone},
		{"no snapshots of folders", subdirectorySnapshotRefused},
		{"its node dies", nodeDies},
		{"folders beside it", func(e *env) { e.lifecycle("atoll.blocks") }},
	} {
		t.Run(one.name, func(t *testing.T) { one.test(&env{T: t, Cluster: base.Cluster}) })
	}
	base.checkNoLeftovers("blocks")
	base.deletePool("blocks")
}

// attachedTo is the node to which Kubernetes has attached a claim's volume.
func (e *env) attachedTo(claim string) string {
	volume := e.field("{.spec.volumeName}", "pvc", claim)
	return e.field(`{.items[?(@.spec.source.persistentVolumeName=="`+volume+`")].spec.nodeName}`, "volumeattachment")
}

func attachedToOneNode(e *env) {
	for _, class := range []string{"atoll.blocks.block", "ext4"} {
		name := "db-" + strings.ReplaceAll(class, ".", "-")
		e.apply(claim(name, class, "300Mi", "ReadWriteOnce") + pod(name+"-1", name, podOptions{node: "n1"}))
		e.waitRunning(name + "-1")
		e.sh(name+"-1", "echo one > /data/a; sync")
		if node := e.attachedTo(name); node != "n1" {
			e.Errorf("%s is attached to %q", name, node)
		}
		e.apply(pod(name+"-2", name, podOptions{node: "n2"}))
		e.waitEvent(name+"-2", "is already used by pod") // the rest of the text differs between versions
		e.kubectl("delete", "pod", name+"-1")
		e.waitRunning(name + "-2")
		if got := e.sh(name+"-2", "cat /data/a; echo two > /data/b; sync"); got != "one\n" {
			e.Errorf("the second node reads %q", got)
		}
		if class != "ext4" { // growing ext4 in use needs CAP_SYS_RESOURCE
			e.expand(name, "400Mi")
		}
		e.eventually(limit, "the file system has grown", func() error {
			size := strings.Fields(e.sh(name+"-2", "df -m /data | tail -n 1"))
			if len(size) < 2 || size[1] < "310" && class != "ext4" {
				return fmt.Errorf("df reports %v", size)
			}
			return nil
		})
		e.finish(name, name+"-2")
	}
}

func raw(e *env) {
	withDevice := func(name, node string) string {
		p := pod(name, "raw", podOptions{node: node})
		return strings.Replace(strings.Replace(p, "    - {name: data, mountPath: /data}\n", "", 1), "    volumeMounts:",
			"    volumeDevices:\n    - {name: data, devicePath: /dev/data}\n    volumeMounts:", 1)
	}
	e.apply(strings.Replace(claim("raw", "atoll.blocks.block", "100Mi", "ReadWriteOnce"), "spec:\n",
		"spec:\n  volumeMode: Block\n", 1) + withDevice("raw-1", "n1"))
	e.waitRunning("raw-1")
	e.sh("raw-1", "echo hello | dd of=/dev/data bs=4096 seek=1000 conv=sync,fsync")
	e.kubectl("delete", "pod", "raw-1")
	e.apply(withDevice("raw-2", "n3"))
	e.waitRunning("raw-2")
	if got := e.sh("raw-2", "dd if=/dev/data bs=4096 skip=1000 count=1 2>/dev/null | head -n 1"); got != "hello\n" {
		e.Errorf("the other node reads %q", got)
	}
	e.finish("raw", "raw-2")
}

func blockGroup(e *env) {
	e.apply(claim("group", "atoll.blocks.block", "300Mi", "ReadWriteOncePod") +
		pod("group", "group", podOptions{spec: "securityContext: {fsGroup: 2000, runAsUser: 1000}", node: "n2"}))
	e.waitRunning("group")
	e.sh("group", "echo mine > /data/a && sync")
	e.finish("group", "group")
}

// nodeDies disconnects the node of a pod with a volume, and moves the pod to another node, as
// an operator does with the taint out-of-service. The writer syncs with fsync(2), which
// reports errors; sync(2) would acknowledge data that was lost with the node.
func nodeDies(e *env) {
	e.apply(claim("dies", "atoll.blocks.block", "300Mi", "ReadWriteOnce") +
		pod("dies-1", "dies", podOptions{
			node:    "n2",
			command: `[sh, -c, "i=0; while true; do i=$((i+1)); echo $i > /data/n.new && sync /data/n.new && mv /data/n.new /data/n && sync /data && echo $i > /ledger/dies; done"]`,
		}))
	e.waitRunning("dies-1")
	time.Sleep(5 * time.Second)
	e.order("unplug", "n2")
	cut := time.Now()
	e.eventually(2*time.Minute, "Kubernetes notices the lost node", func() error {
		if ready := e.field(`{.status.conditions[?(@.type=="Ready")].status}`, "node", "n2"); ready == "True" {
			return fmt.Errorf("it is %s", ready)
		}
		return nil
	})
	e.kubectl("taint", "node", "n2", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
	begin := time.Now()
	e.kubectl("delete", "pod", "dies-1", "--force", "--grace-period=0")
	e.apply(pod("dies-2", "dies", podOptions{node: "n3"}))
	e.eventually(2*limit, "the pod runs on another node", func() error {
		if phase := e.field("{.status.phase}", "pod", "dies-2"); phase != "Running" {
			return fmt.Errorf("it is %s", phase)
		}
		return nil
	})
	e.Logf("running on another node %s after the pod was deleted, %s after its node was cut off",
		time.Since(begin).Round(time.Second), time.Since(cut).Round(time.Second))
	has := strings.TrimSpace(e.sh("dies-2", "cat /data/n; echo other > /data/other; sync"))
	e.order("plug", "n2")
	e.kubectl("taint", "node", "n2", "node.kubernetes.io/out-of-service-")
	acked := e.ledgerOf("dies", 2)
	if has == "" || len(has) < len(acked) || len(has) == len(acked) && has < acked {
		e.Errorf("the volume has %s, acknowledged was %s", has, acked)
	}
	e.waitHealthy("blocks")
	if got := e.sh("dies-2", "cat /data/other"); got != "other\n" {
		e.Errorf("after the first node is back there is %q", got)
	}
	e.finish("dies", "dies-2")
}
