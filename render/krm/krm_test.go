package krm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// TestKustomizeTransformer builds a kustomization with the program as a transformer, and
// checks that patches apply before rendering.
func TestKustomizeTransformer(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "atoll"),
		"../../cmd/atoll").CombinedOutput(); err != nil {
		t.Fatalf("build atoll: %v\n%s", err, out)
	}
	for name, text := range map[string]string{
		"kustomization.yaml": "resources: [pool.yaml, other.yaml]\ntransformers: [atoll.yaml]\n" +
			"patches:\n- patch: |-\n    - {op: replace, path: /spec/bricks/0/node, value: kube7}\n" +
			"  target: {kind: StoragePool}\n",
		"pool.yaml": "apiVersion: atoll.storage/v1alpha1\nkind: StoragePool\nmetadata: {name: p}\n" +
			"spec: {type: Replica1, bricks: [{node: kube1, path: /srv/p}]}\n",
		"other.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
		"atoll.yaml": "apiVersion: atoll.storage/v1alpha1\nkind: Render\nmetadata:\n  name: render\n  annotations:\n" +
			"    config.kubernetes.io/function: |\n      exec: {path: ./atoll, args: [fn]}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options := krusty.MakeDefaultOptions()
	options.PluginConfig = types.EnabledPluginConfig(types.BploUseStaticallyLinked) // --enable-alpha-plugins
	options.PluginConfig.FnpLoadingOptions.EnableExec = true                        // --enable-exec
	options.PluginConfig.FnpLoadingOptions.WorkingDir = dir
	built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kind: StatefulSet", "- kube7", "name: other", "name: atoll.p"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "kind: StoragePool") {
		t.Error("the output still contains the StoragePool")
	}
}
