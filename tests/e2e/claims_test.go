package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// waitEvent waits for an event of an object whose message contains says.
func (e *env) waitEvent(object, says string) {
	e.Helper()
	e.eventually(limit, "an event of "+object+" says "+says, func() error {
		out, err := e.tryKubectl("", "get", "events", "--field-selector", "involvedObject.name="+object, "-o",
			"jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(out, says) {
			err = fmt.Errorf("events say %q", out)
		}
		return err
	})
}

// TestClaims uses volumes of one pool in the ways that Kubernetes offers.
func TestClaims(t *testing.T) {
	base := boot(t)
	base.apply(poolDocument("claims", `
  type: Replica2
  bricks:
  - {node: n1, device: /dev/disk/by-id/disk-5}
  - {node: n2, device: /dev/disk/by-id/disk-5}
  storageClasses:
  - {name: later, bindingMode: WaitForFirstConsumer}`+small))
	base.waitReady("claims")
	for name, test := range map[string]func(*env){
		"WaitForFirstConsumer": waitForFirstConsumer,
		"custom class":         customClass,
		"fsGroup and non-root": nonRoot,
		"subPath":              subPath,
		"readOnly":             readOnly,
		"ReadWriteOncePod":     oncePod,
	} {
		t.Run(name, func(t *testing.T) { test(&env{T: t, Cluster: base.Cluster}) })
	}
	base.checkNoLeftovers("claims")
	base.deletePool("claims")
}

// finish deletes pods and their claim, and waits until the volume is deleted.
func (e *env) finish(claim string, pods ...string) {
	e.Helper()
	volume := e.field("{.spec.volumeName}", "pvc", claim)
	e.kubectl(append([]string{"delete", "pod"}, pods...)...)
	e.kubectl("delete", "pvc", claim)
	e.waitDeleted("pv", volume)
}

func waitForFirstConsumer(e *env) {
	e.apply(claim("later", "later", "10Mi", "ReadWriteOnce"))
	e.waitEvent("later", "waiting for first consumer")
	if phase := e.field("{.status.phase}", "pvc", "later"); phase != "Pending" {
		e.Errorf("the claim is %s before a pod uses it", phase)
	}
	e.apply(pod("later", "later", podOptions{}))
	e.waitRunning("later")
	e.finish("later", "later")
}

// customClass uses a StorageClass that a user wrote, with its own parameters.
func customClass(e *env) {
	e.apply(`
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: mine}
provisioner: csi.atoll.storage
allowVolumeExpansion: true
mountOptions: [noatime]
parameters: {pool: claims, reclaim: Delete, overcommit: "2"}
---` + claim("mine", "mine", "10Mi", "ReadWriteMany") + pod("mine", "mine", podOptions{node: "n3"}))
	e.waitRunning("mine")
	if mount := e.sh("mine", "grep ' /data ' /proc/mounts"); !strings.Contains(mount, "noatime") {
		e.Errorf("the class' mount option is missing: %s", mount)
	}
	e.finish("mine", "mine")
	e.kubectl("delete", "storageclass", "mine")
}

func nonRoot(e *env) {
	e.apply(claim("group", "atoll.claims", "10Mi", "ReadWriteMany") + pod("group", "group", podOptions{
		spec: "securityContext: {runAsUser: 1234, runAsGroup: 1234, runAsNonRoot: true, fsGroup: 4321}",
	}))
	e.waitRunning("group")
	e.sh("group", "echo mine >/data/file")
	if have := e.sh("group",
		"stat -c '%u:%g' /data/file; stat -c '%g %A' /data"); have != "1234:4321\n4321 drwxrwsrwx\n" {
		e.Errorf("owners are %q", have)
	}
	e.finish("group", "group")
}

func subPath(e *env) {
	e.apply(claim("parts", "atoll.claims", "10Mi", "ReadWriteMany") +
		pod("part-a", "parts", podOptions{node: "n1", mount: "subPath: a/b"}) +
		pod("parts", "parts", podOptions{node: "n2"}))
	e.waitRunning("part-a", "parts")
	e.sh("part-a", "echo inside >/data/file")
	if have := e.sh("parts", "cat /data/a/b/file"); have != "inside\n" {
		e.Errorf("the whole volume has %q", have)
	}
	e.finish("parts", "part-a", "parts")
}

func readOnly(e *env) {
	e.apply(claim("shared", "atoll.claims", "10Mi", "ReadWriteMany") +
		pod("shared", "shared", podOptions{node: "n1"}) +
		pod("looker", "shared", podOptions{node: "n1", mount: "readOnly: true"}))
	e.waitRunning("shared", "looker")
	e.sh("shared", "echo new >/data/file")
	if have := e.sh("looker", "cat /data/file"); have != "new\n" {
		e.Errorf("the reader has %q", have)
	}
	if _, err := e.tryKubectl("", "exec", "looker", "--", "touch", "/data/file"); err == nil ||
		!strings.Contains(err.Error(), "Read-only") {
		e.Errorf("the reader may write: %v", err)
	}
	e.finish("shared", "shared", "looker")
}

// oncePod: the second pod is not even scheduled.
func oncePod(e *env) {
	e.apply(claim("once", "atoll.claims", "10Mi", "ReadWriteOncePod") + pod("once", "once", podOptions{}))
	e.waitRunning("once")
	e.apply(pod("twice", "once", podOptions{}))
	e.waitEvent("twice", "ReadWriteOncePod")
	e.kubectl("delete", "pod", "once")
	e.eventually(time.Minute, "the second pod runs once the first is deleted", func() error {
		if phase := e.field("{.status.phase}", "pod", "twice"); phase != "Running" {
			return fmt.Errorf("it is %s", phase)
		}
		return nil
	})
	e.finish("once", "twice")
}
