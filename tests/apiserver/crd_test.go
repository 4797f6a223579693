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
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// crdClient creates StoragePools in a cluster with their definition.
type crdClient struct {
	t *testing.T
	*cluster
	client dynamic.ResourceInterface
}

func newCRDClient(t *testing.T, config *rest.Config) crdClient {
	t.Helper()
	c := connect(t, config)
	c.createCRD("../../kustomize/base/crds/storagepools.yaml")
	return crdClient{t, c, c.dynamic.Resource(storagePools).Namespace(schema.DefaultNamespace)}
}

// createCRD creates a custom resource definition, and waits until the server serves its kind.
func (c *cluster) createCRD(path string) {
	c.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict(text, &u.Object); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	crds := c.dynamic.Resource(runtime.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1",
		Resource: "customresourcedefinitions",
	})
	if _, err := crds.Create(ctx, u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
		c.t.Fatalf("the server rejects the definition: %v", err)
	}
	group, plural, version := u.Object["spec"].(map[string]any)["group"].(string), strings.SplitN(u.GetName(), ".",
		2)[0], "v1alpha1"
	for {
		if _, err := c.dynamic.Resource(runtime.GroupVersionResource{
			Group: group, Version: version,
			Resource: plural,
		}).List(ctx, metav1.ListOptions{}); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("the server does not serve %s", plural)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// dryRun creates a document by a dry run.
func (p crdClient) dryRun(text []byte) error {
	u := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict(text, &u.Object); err != nil {
		return err
	}
	u.SetNamespace("")
	_, err := p.client.Create(context.Background(), u,
		metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict, DryRun: []string{metav1.DryRunAll}})
	return err
}

// vetOnlyCodes lists codes of errors that 'atoll vet' finds, and a schema of one object cannot.
var vetOnlyCodes = []string{
	"same-node", "decommission-set", "tiebreaker-node", "place-twice", "pool-twice",
	"name-length", "class-twice", "class-parameter", "client-option", "class-default",
	"option-range", "system-path", "resource-limit",
}

// TestCRDAgreesWithVet checks the custom resource definition against 'atoll vet': the server
// accepts documents without errors and rejects those with errors, except for a few errors
// that only a check of all documents can find.
func TestCRDAgreesWithVet(t *testing.T) {
	p := newCRDClient(t, start(t))
	good, err := filepath.Glob("../../examples/pools/*.yaml")
	if err != nil || len(good) < 8 {
		t.Fatalf("%v, %v", good, err)
	}
	for _, path := range good {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.dryRun(text); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	archives, err := filepath.Glob("../../schema/testdata/vet/*.txtar")
	if err != nil || len(archives) < 8 {
		t.Fatalf("%v, %v", archives, err)
	}
	rejected, accepted := 0, 0
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
				case "rejected":
					rejected++
				case "accepted":
					accepted++
				}
			}
		}
	}
	t.Logf("%d documents rejected, %d accepted", rejected, accepted)
	if rejected < 15 || accepted < 5 {
		t.Error("too few documents of one kind")
	}
}

// compare checks that vet and the server agree on one document, and returns the server's
// verdict; "" where they need not agree.
func (p crdClient) compare(name, text string) string {
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
	err = p.dryRun([]byte(text))
	rest := slices.DeleteFunc(slices.Clone(known), func(code string) bool {
		return slices.Contains(vetOnlyCodes,
			code)
	})
	switch {
	case len(rest) > 0 && err == nil:
		p.t.Errorf("%s is accepted despite %v", name, known)
	case len(known) == 0 && err != nil:
		p.t.Errorf("%s is rejected: %v", name, err)
	case err != nil:
		return "rejected"
	default:
		return "accepted"
	}
	return ""
}

// TestCRDRefusesChanges changes existing pools.
func TestCRDRefusesChanges(t *testing.T) {
	p := newCRDClient(t, start(t))
	ctx := t.Context()
	const two = "bricks: [{node: a, path: /p}, {node: b, path: /p}]"
	const three = "bricks: [{node: a, path: /p}, {node: b, path: /p}, {node: c, path: /p}]"
	const decommissioned = "{node: d, path: /p, decommissioned: true}, {node: e, path: /p, decommissioned: true}, " +
		"{node: f, path: /p, decommissioned: true}"
	six := strings.Replace(three, "c, path: /p}",
		"c, path: /p}, {node: d, path: /p}, {node: e, path: /p}, {node: f, path: /p}", 1)
	shrinking := strings.Replace(three, "c, path: /p}", "c, path: /p}, "+decommissioned, 1)
	for i, test := range []struct{ before, after, problem string }{
		{"type: Replica3, " + three, "type: Replica3, options: {network.ping-timeout: \"5\"}, " + three, ""},
		{"type: Replica3, " + three, "type: Replica3, " + six, ""},
		{"type: Replica3, " + six, "type: Replica3, " + three, "only decommissioned, empty bricks"},
		{"type: Replica3, " + shrinking, "type: Replica3, " + three, ""},
		{"type: Replica3, " + three, "type: Arbiter, " + three, "the type cannot change"},
		{"type: Replica1, bricks: [{node: a, path: /p}]", "type: Replica3, " + three, "the type cannot change"},
		{"type: Replica1, bricks: [{node: a, path: /p}]", "type: Replica2, " + two, ""},
		{"type: Replica2, " + two, "type: Replica3, " + three, ""},
		{
			"type: Replica2, tiebreaker: {node: t, path: /t}, " + two, "type: Replica3, " + three,
			"the type cannot change",
		},
		{"type: Replica3, " + three, "type: Replica2, " + two, "the type cannot change"},
		{"type: Replica1, " + two, "type: Replica2, " + two, "the type cannot change"},
		{
			"type: Disperse, disperse: {data: 2, redundancy: 1}, " + three,
			"type: Disperse, disperse: {data: 4, redundancy: 2}, " + six, "disperse cannot change",
		},
		{
			"type: Replica3, " + three, "type: Replica3, volumeID: 64220cb5-c301-41b1-b4f1-e5756b3171dc, " + three,
			"volumeID cannot change",
		},
		{"type: External, external: {hosts: [a], volume: v}", "type: External, external: {hosts: [b], volume: v}", ""},
		{
			"type: External, external: {hosts: [a], volume: v}", "type: External, external: {hosts: [a], volume: w}",
			"the volume cannot change",
		},
	} {
		spec := func(text string) map[string]any {
			var s map[string]any
			if err := yaml.Unmarshal([]byte("{"+text+"}"), &s); err != nil {
				t.Fatal(err)
			}
			return s
		}
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "atoll.storage/v1alpha1",
			"kind":       "StoragePool", "spec": spec(test.before),
		}}
		u.SetName(fmt.Sprintf("p%d", i))
		if _, err := p.client.Create(ctx, u, metav1.CreateOptions{}); err != nil {
			t.Fatalf("%s: %v", test.before, err)
		}
		patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/spec", "value": spec(test.after)}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.client.Patch(ctx, u.GetName(), "application/json-patch+json", patch, metav1.PatchOptions{})
		if (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s -> %s: %v", test.before, test.after, err)
		}
	}
}
