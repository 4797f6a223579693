package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// flux is a real kustomize-controller. Flux' source-controller cannot be built from its
// module, so the test does its part: it serves commits as artifacts, and names them in the
// status of a GitRepository.
type flux struct {
	*env
	url string

	mu        sync.Mutex
	artifacts map[string][]byte
}

// sourceKinds are what kustomize-controller watches; only the first is used.
var sourceKinds = map[string]string{
	"GitRepository": "gitrepositories", "OCIRepository": "ocirepositories", "Bucket": "buckets",
	"ExternalArtifact": "externalartifacts",
}

func (e *env) startFlux() *flux {
	e.Helper()
	program := filepath.Join(e.Programs, "kustomize-controller")
	if _, err := os.Stat(program); err != nil {
		e.Skip("kustomize-controller is not built: run make e2e")
	}
	f := &flux{env: e, artifacts: map[string][]byte{}}
	f.definitions()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.Fatal(err)
	}
	f.url = "http://" + l.Addr().String()
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			_, _ = w.Write(f.artifacts[r.URL.Path]) // fails if the client has disconnected
		}),
	}
	go func() { _ = server.Serve(l) }() // until it is closed
	e.Cleanup(func() { server.Close() })

	log, err := os.Create(filepath.Join(e.Dir, "log/kustomize-controller.log"))
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { log.Close() })
	cmd := exec.Command(program, "--metrics-addr=127.0.0.1:0", "--health-addr=127.0.0.1:0", "--log-level=debug")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Kubeconfig, "RUNTIME_NAMESPACE=flux-system")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return f
}

// definitions creates the kinds of Flux: its own definition of Kustomizations, and permissive
// definitions of sources.
func (f *flux) definitions() {
	f.Helper()
	module := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/fluxcd/kustomize-controller")
	module.Dir = "../cluster/binaries/flux"
	dir, err := module.Output()
	if err != nil {
		f.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)),
		"config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.apply(string(own))
	for kind, plural := range sourceKinds {
		f.apply(fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.source.toolkit.fluxcd.io}
spec:
  group: source.toolkit.fluxcd.io
  scope: Namespaced
  names: {kind: %[1]s, listKind: %[1]sList, plural: %[2]s, singular: %[3]s}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`, kind, plural, strings.ToLower(kind)))
		f.kubectl("wait", "--for=condition=Established", "crd/"+plural+".source.toolkit.fluxcd.io", "--timeout=30s")
	}
	f.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: flux-system}\n")
}

// publish does what source-controller does with a new commit.
func (f *flux) publish(r *repository, commit string) {
	f.Helper()
	archive := r.archive(commit)
	path := "/gitrepository/flux-system/storage/" + commit + ".tar.gz"
	f.mu.Lock()
	f.artifacts[path] = archive
	f.mu.Unlock()
	sum := sha256.Sum256(archive)
	now := time.Now().UTC().Format(time.RFC3339)
	status, err := json.Marshal(map[string]any{"status": map[string]any{
		"artifact": map[string]any{
			"path": strings.TrimPrefix(path, "/"), "url": f.url + path, "revision": "main@sha1:" + commit,
			"digest": "sha256:" + hex.EncodeToString(sum[:]), "lastUpdateTime": now, "size": len(archive),
		},
		"conditions": []map[string]any{{
			"type": "Ready", "status": "True", "reason": "Succeeded",
			"message": "stored artifact", "lastTransitionTime": now,
		}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.kubectl("patch", "gitrepository", "-n", "flux-system", "storage", "--subresource=status", "--type=merge", "-p",
		string(status))
}

// applied waits until Flux has applied a commit and all its objects are ready.
func (f *flux) applied(commit string) {
	f.Helper()
	f.waitField("{.status.lastAppliedRevision}", "main@sha1:"+commit, "kustomization", "-n", "flux-system", "pools")
}

// reconcile triggers a reconciliation, as 'flux reconcile' does.
func (f *flux) reconcile() {
	f.Helper()
	f.kubectl("annotate", "--overwrite", "kustomization", "-n", "flux-system", "pools",
		"reconcile.fluxcd.io/requestedAt="+time.Now().Format(time.RFC3339Nano))
}
