package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// gitopsPool is a pool with a custom StorageClass.
func gitopsPool(name, class string) string {
	return poolDocument(name, `
  type: Replica2
  bricks:
  - {node: n1, path: /srv/`+name+`}
  - {node: n2, path: /srv/`+name+`}
  storageClasses:
  - {name: `+class+`}`+small)
}

// TestFlux: Flux applies documents from git as resources, and Atoll's reconciler does the rest.
func TestFlux(t *testing.T) {
	onlyFull(t)
	e := boot(t)
	f := e.startFlux()
	e.makeBrickDirs(gitopsPool("gitops", "x"))
	r := newRepository(t)
	f.apply(`
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: storage, namespace: flux-system}
spec: {interval: 1m, url: "https://git.example.org/storage"}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: pools, namespace: flux-system}
spec:
  sourceRef: {kind: GitRepository, name: storage}
  path: ./pools
  interval: 10m
  retryInterval: 15s
  prune: true
  wait: true
  timeout: 3m
`)
	first := r.commit("a pool", map[string]string{"pools/gitops.yaml": gitopsPool("gitops", "standard")})
	f.publish(r, first)
	f.applied(first)
	e.waitReady("gitops") // Flux has waited for it
	w := e.startWorkload("flux-app", "standard", 1, 3)

	second := r.commit("another name for its class",
		map[string]string{"pools/gitops.yaml": gitopsPool("gitops", "plain")})
	f.publish(r, second)
	f.applied(second)
	e.waitField("{.metadata.name}", "plain", "storageclass", "plain")

	// Flux corrects drift of the document, the reconciler drift of the rendered objects.
	e.kubectl("patch", "storagepool", "-n", "atoll-system", "gitops", "--type=merge", "-p",
		`{"spec":{"resources":{"requests":{"cpu":"99m"}}}}`)
	f.reconcile()
	e.waitField("{.spec.resources.requests.cpu}", "10m", "storagepool", "-n", "atoll-system", "gitops")
	e.kubectl("delete", "storageclass", "plain")
	e.waitField("{.metadata.name}", "plain", "storageclass", "plain")
	e.kubectl("scale", "statefulset", "-n", "atoll-system", "atoll-gitops-1", "--replicas=0")
	e.waitField("{.spec.replicas}", "1", "statefulset", "-n", "atoll-system", "atoll-gitops-1")
	e.waitHealthy("gitops")

	// The document is removed from git while a volume is in use: the pool stays, and says why.
	third := r.commit("away with it", map[string]string{
		"pools/gitops.yaml": "",
		"pools/none.yaml":   "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: none, namespace: flux-system}\n",
	})
	f.publish(r, third)
	e.eventually(limit, "Flux prunes the pool, which says why it stays", func() error {
		out, err := e.tryKubectl("", "get", "storagepool", "-n", "atoll-system", "gitops", "-o",
			`jsonpath={.metadata.deletionTimestamp} {.status.conditions[?(@.type=="Ready")].message}`)
		if err == nil && (strings.HasPrefix(out, " ") || !strings.Contains(out, "volume")) {
			return errString(out)
		}
		return err
	})
	w.waitProgress(100)
	w.check()
	e.waitDeleted("storagepool", "-n", "atoll-system", "gitops")
	e.waitDeleted("statefulset", "-n", "atoll-system", "-l", "atoll.storage/pool=gitops")
	e.kubectl("delete", "kustomization", "-n", "flux-system", "pools")
}

type errString string

func (e errString) Error() string { return "it says " + string(e) }

// TestRendered: CI renders, git has the objects, kustomize and kubectl apply them. The
// reconciler is not involved.
func TestRendered(t *testing.T) {
	onlyFull(t)
	e := boot(t)
	e.makeBrickDirs(gitopsPool("rendered", "x"))
	r := newRepository(t)
	commit := func(message, class string) {
		t.Helper()
		document := strings.ReplaceAll(gitopsPool("rendered", class), "  deletionPolicy: Delete\n", "")
		r.commit(message, map[string]string{
			"pools/rendered.yaml":         document,
			"rendered/kustomization.yaml": "resources: [pools.yaml]\n",
			"rendered/pools.yaml":         e.atoll(document, "render", "-"),
		})
	}
	apply := func() {
		t.Helper()
		built := e.kubectl("kustomize", filepath.Join(r.checkout(), "rendered"))
		e.apply(built)
	}
	commit("a pool", "rendered-class")
	apply()
	for _, brick := range []string{"atoll-rendered-0-0", "atoll-rendered-1-0"} {
		e.waitField(`{.status.conditions[?(@.type=="Ready")].status}`, "True", "pod", "-n", "atoll-system", brick)
	}
	w := e.startWorkload("rendered-app", "rendered-class", 2, 3)
	commit("another class", "rendered-second")
	apply()
	e.waitField("{.metadata.name}", "rendered-second", "storageclass", "rendered-second")
	e.kubectl("delete", "service", "-n", "atoll-system", "atoll-rendered")
	apply()
	e.waitField("{.metadata.name}", "atoll-rendered", "service", "-n", "atoll-system", "atoll-rendered")
	w.waitProgress(100)
	w.check()
	e.kubectl("delete", "statefulset,service,configmap,poddisruptionbudget", "-n", "atoll-system", "-l",
		"atoll.storage/pool=rendered")
	e.kubectl("delete", "storageclass", "rendered-class", "rendered-second", "--ignore-not-found")
	e.kubectl("delete", "storageclass", "atoll.rendered", "--ignore-not-found")
}

// atoll runs the program with a document as its input, against the cluster.
func (e *env) atoll(input string, args ...string) string {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	program, err := filepath.Abs("../../bin/linux-" + runtime.GOARCH + "/atoll")
	if err != nil {
		e.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Kubeconfig)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		e.Fatalf("atoll %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
