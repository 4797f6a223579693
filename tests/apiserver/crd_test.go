package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	runtime "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
)

// pools makes StoragePools, once the cluster knows what they are.
type crdPools struct {
	t *testing.T
	*cluster
	client dynamic.ResourceInterface
}

func withCRD(t *testing.T, config *rest.Config) crdPools {
	t.Helper()
	c := connect(t, config)
	c.definition("../../kustomize/base/crds/storagepools.yaml")
	return crdPools{t, c, c.dynamic.Resource(storagePools).Namespace(schema.DefaultNamespace)}
}

// definition brings a custom resource definition into the cluster.
func (c *cluster) definition(path string) {
	c.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict(text, &u.Object); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	crds := c.dynamic.Resource(runtime.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := crds.Create(ctx, u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
		c.t.Fatalf("the definition is refused: %v", err)
	}
	group, plural, version := u.Object["spec"].(map[string]any)["group"].(string), strings.SplitN(u.GetName(), ".", 2)[0], "v1alpha1"
	for {
		if _, err := c.dynamic.Resource(runtime.GroupVersionResource{Group: group, Version: version, Resource: plural}).List(ctx, metav1.ListOptions{}); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("the cluster does not get to know %s", plural)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// try has the server take a document, without keeping it.
func (p crdPools) try(text []byte) error {
	u := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict(text, &u.Object); err != nil {
		return err
	}
	u.SetNamespace("")
	_, err := p.client.Create(context.Background(), u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict, DryRun: []string{metav1.DryRunAll}})
	return err
}

// beyond are problems that 'atoll vet' finds, and a schema of one object cannot.
var beyond = []string{"same-node", "decommission-set", "tiebreaker-node", "place-twice", "pool-twice", "name-length", "class-twice", "class-parameter", "client-option", "class-default"}

// TestCRDTakesWhatVetTakes holds the custom resource definition to 'atoll vet': documents
// that it finds good are taken, and those with errors are refused, but for a few errors
// that only who sees all documents can know.
func TestCRDTakesWhatVetTakes(t *testing.T) {
	p := withCRD(t, start(t))
	good, err := filepath.Glob("../../examples/pools/*.yaml")
	if err != nil || len(good) < 8 {
		t.Fatalf("%v, %v", good, err)
	}
	for _, path := range good {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.try(text); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	archives, err := filepath.Glob("../../schema/testdata/vet/*.txtar")
	if err != nil || len(archives) < 8 {
		t.Fatalf("%v, %v", archives, err)
	}
	refused, taken := 0, 0
	for _, path := range archives {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			for i, text := range strings.Split("\n"+string(f.Data), "\n---") {
				if !strings.HasSuffix(f.Name, ".yaml") || !strings.Contains(text, "kind: StoragePool") {
					continue
				}
				switch p.compare(fmt.Sprintf("%s %s %d", filepath.Base(path), f.Name, i), text) {
				case "refused":
					refused++
				case "taken":
					taken++
				}
			}
		}
	}
	t.Logf("%d documents refused, %d taken", refused, taken)
	if refused < 15 || taken < 5 {
		t.Error("too few to mean something")
	}
}

// compare tells what became of one document by both; "" where they need not agree.
func (p crdPools) compare(name, text string) string {
	r, err := loader.Load(context.Background(), loader.Options{Stdin: strings.NewReader(text)}, "-")
	if err != nil || len(r.Documents) != 1 {
		return ""
	}
	var known []string
	for _, d := range r.Diagnostics {
		if d.Severity == schema.SeverityError {
			known = append(known, d.Code)
		}
	}
	err = p.try([]byte(text))
	rest := slices.DeleteFunc(slices.Clone(known), func(code string) bool { return slices.Contains(beyond, code) })
	switch {
	case len(rest) > 0 && err == nil:
		p.t.Errorf("%s is taken, though: %v", name, known)
	case len(known) == 0 && err != nil:
		p.t.Errorf("%s is refused: %v", name, err)
	case err != nil:
		return "refused"
	default:
		return "taken"
	}
	return ""
}

// TestCRDRefusesChanges changes pools that are there.
func TestCRDRefusesChanges(t *testing.T) {
	p := withCRD(t, start(t))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const two = "bricks: [{node: a, path: /p}, {node: b, path: /p}]"
	const three = "bricks: [{node: a, path: /p}, {node: b, path: /p}, {node: c, path: /p}]"
	const gone = "{node: d, path: /p, decommissioned: true}, {node: e, path: /p, decommissioned: true}, {node: f, path: /p, decommissioned: true}"
	six := strings.Replace(three, "c, path: /p}", "c, path: /p}, {node: d, path: /p}, {node: e, path: /p}, {node: f, path: /p}", 1)
	leaving := strings.Replace(three, "c, path: /p}", "c, path: /p}, "+gone, 1)
	for i, test := range []struct{ before, after, refusal string }{
		{"type: Replica3, " + three, "type: Replica3, options: {network.ping-timeout: \"5\"}, " + three, ""},
		{"type: Replica3, " + three, "type: Replica3, " + six, ""},
		{"type: Replica3, " + six, "type: Replica3, " + three, "only decommissioned, empty bricks"},
		{"type: Replica3, " + leaving, "type: Replica3, " + three, ""},
		{"type: Replica3, " + three, "type: Arbiter, " + three, "the type cannot change"},
		{"type: Replica1, bricks: [{node: a, path: /p}]", "type: Replica3, " + three, "the type cannot change"},
		{"type: Replica1, bricks: [{node: a, path: /p}]", "type: Replica2, " + two, ""},
		{"type: Replica2, " + two, "type: Replica3, " + three, ""},
		{"type: Replica2, tiebreaker: {node: t, path: /t}, " + two, "type: Replica3, " + three, "the type cannot change"},
		{"type: Replica3, " + three, "type: Replica2, " + two, "the type cannot change"},
		{"type: Replica1, " + two, "type: Replica2, " + two, "the type cannot change"},
		{"type: Disperse, disperse: {data: 2, redundancy: 1}, " + three, "type: Disperse, disperse: {data: 4, redundancy: 2}, " + six, "disperse cannot change"},
		{"type: Replica3, " + three, "type: Replica3, volumeID: 64220cb5-c301-41b1-b4f1-e5756b3171dc, " + three, "volumeID cannot change"},
		{"type: External, external: {hosts: [a], volume: v}", "type: External, external: {hosts: [b], volume: v}", ""},
		{"type: External, external: {hosts: [a], volume: v}", "type: External, external: {hosts: [a], volume: w}", "the volume cannot change"},
	} {
		spec := func(text string) map[string]any {
			var s map[string]any
			if err := yaml.Unmarshal([]byte("{"+text+"}"), &s); err != nil {
				t.Fatal(err)
			}
			return s
		}
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "atoll.storage/v1alpha1", "kind": "StoragePool", "spec": spec(test.before)}}
		u.SetName(fmt.Sprintf("p%d", i))
		if _, err := p.client.Create(ctx, u, metav1.CreateOptions{}); err != nil {
			t.Fatalf("%s: %v", test.before, err)
		}
		patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/spec", "value": spec(test.after)}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.client.Patch(ctx, u.GetName(), "application/json-patch+json", patch, metav1.PatchOptions{})
		if (err == nil) != (test.refusal == "") || err != nil && !strings.Contains(err.Error(), test.refusal) {
			t.Errorf("%s -> %s: %v", test.before, test.after, err)
		}
	}
}
