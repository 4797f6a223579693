package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/atoll-storage/atoll/tests/internal/cluster"
)

// env is a test's view of the cluster.
type env struct {
	*testing.T
	*cluster.Cluster
}

// limit is the default timeout: pods start slowly when three nodes share two cores.
const limit = 3 * time.Minute

// install applies the shipped base and components, as docs/reconciler.md describes, and waits
// until everything runs.
func install(ctx context.Context, c *cluster.Cluster) error {
	if err := installSnapshots(ctx, c); err != nil {
		return err
	}
	base, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "testdata/install")
	if err != nil {
		return err
	}
	text, err := base.AsYaml()
	if err != nil {
		return err
	}
	if _, err := kubectl(ctx, c, string(text), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	if _, err := kubectl(ctx, c, "", "-n", "kube-system", "rollout", "status", "--timeout=2m",
		"deployment/snapshot-controller"); err != nil {
		return err
	}
	for _, what := range []string{
		"deployment/atoll-reconciler", "deployment/atoll-csi-controller",
		"daemonset/atoll-csi-node",
	} {
		if _, err := kubectl(ctx, c, "", "-n", "atoll-system", "rollout", "status", "--timeout=2m", what); err != nil {
			return err
		}
	}
	return nil
}

// kubectl runs kubectl with input, and returns its output.
func kubectl(ctx context.Context, c *cluster.Cluster, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.Programs, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	cmd.Stdin = strings.NewReader(input)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, problem.String())
	}
	return out.String(), nil
}

// kubectl runs kubectl, which must succeed.
func (e *env) kubectl(args ...string) string {
	e.Helper()
	out, err := e.tryKubectl("", args...)
	if err != nil {
		e.Fatal(err)
	}
	return out
}

func (e *env) tryKubectl(input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return kubectl(ctx, e.Cluster, input, args...)
}

// apply applies documents with kubectl.
func (e *env) apply(yaml string) {
	e.Helper()
	if _, err := e.tryKubectl(yaml, "apply", "--server-side", "-f", "-"); err != nil {
		e.Fatal(err)
	}
}

// eventually calls ask until it returns no error.
func (e *env) eventually(limit time.Duration, what string, ask func() error) {
	e.Helper()
	start := time.Now()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Since(start) > limit {
			e.Fatalf("not within %s: %s: %v", limit, what, err)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// field returns a value of an object by its JSONPath.
func (e *env) field(path string, object ...string) string {
	out, err := e.tryKubectl("", append([]string{"get", "-o", "jsonpath=" + path}, object...)...)
	if err != nil {
		return ""
	}
	return out
}

// waitField waits until a field of an object has a value.
func (e *env) waitField(path, want string, object ...string) {
	e.Helper()
	e.eventually(limit, fmt.Sprintf("%s of %v is %q", path, object, want), func() error {
		if have := e.field(path, object...); have != want {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
}

// waitDeleted waits until an object no longer exists.
func (e *env) waitDeleted(object ...string) {
	e.Helper()
	e.eventually(limit, fmt.Sprintf("%v is deleted", object), func() error {
		out, err := e.tryKubectl("", append([]string{"get", "--ignore-not-found", "-o", "name"}, object...)...)
		if err == nil && out != "" {
			err = fmt.Errorf("%s still exists", out)
		}
		return err
	})
}

// keepState saves objects and events beside the cluster's logs.
func keepState(c *cluster.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for name, args := range map[string][]string{
		"objects.txt": {
			"get", "pods,pvc,pv,volumesnapshots,volumesnapshotcontents,storagepools,storageclasses", "-A",
			"-o", "wide",
		},
		"events.txt": {"get", "events", "-A", "--sort-by=.lastTimestamp"},
		"pools.yaml": {"get", "storagepools", "-A", "-o", "yaml"},
	} {
		out, err := kubectl(ctx, c, "", args...)
		if err != nil {
			out += err.Error()
		}
		if err := os.WriteFile(filepath.Join(c.Dir, "log", name), []byte(out), 0o600); err != nil {
			fmt.Println(err)
		}
	}
}
