package convert

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
)

// convert converts one document and returns its diagnostics as text.
func convert(t *testing.T, text string) (*schema.Pool, string) {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	pool, found := Kadalu(&n, func(string) schema.Position { return schema.Position{File: "f"} })
	var lines []string
	for _, d := range found {
		lines = append(lines, d.String())
	}
	return pool, strings.Join(lines, "\n")
}

func TestConvertKadaluRFC(t *testing.T) {
	pool, diagnostics := convert(t, `
apiVersion: kadalu-operator.storage/v1alpha1
kind: KadaluStorage
metadata: {name: ext-storage}
spec:
  type: External #Here, volume type can be anything
  details:
    - gluster_node: node1
      gluster_volname: volume_name # Volume name
      Gluster_options: log_level=DEBUG
`)
	if pool == nil {
		t.Fatalf("not converted:\n%s", diagnostics)
	}
	e := pool.Spec.External
	if e.Hosts[0] != "node1" || e.Volume != "volume_name" || e.Options[0] != "log-level=DEBUG" {
		t.Errorf("external = %+v", e)
	}
	for _, want := range []string{
		"spec.details: details is a list", `option "log_level" is read as "log-level"`,
		`host "node1" is a short name`,
	} {
		if !strings.Contains(diagnostics, want) {
			t.Errorf("no warning %q in:\n%s", want, diagnostics)
		}
	}
}

func TestConvertKadaluFields(t *testing.T) {
	pool, diagnostics := convert(t, `
metadata: {name: p, namespace: kadalu}
spec:
  type: Replica2
  pvReclaimPolicy: archive
  single_pv_per_pool: true
  volume_id: 64220CB5-c301-41b1-b4f1-e5756b3171dc
  storage: [{node: a, path: /srv/x/}, {node: b, device: /dev/sdb, decommissioned: false}]
  tiebreaker: {node: ta.example.org, path: /ta, port: 24010}
  options: [{key: performance.quick-read, value: off}, {key: made.up, value: 1}]
  tolerations: [{key: storage, operator: Exists}]
  extra: 1
`)
	if pool == nil {
		t.Fatalf("not converted:\n%s", diagnostics)
	}
	s := pool.Spec
	if s.Reclaim != schema.ReclaimArchive || !s.Serves(schema.Single) || s.Bricks[0].Path != "/srv/x" ||
		s.Bricks[1].Device != "/dev/sdb" ||
		s.Tiebreaker.Host != "ta.example.org" || s.Tiebreaker.Port != 24010 ||
		s.Options["performance.quick-read"] != "off" ||
		s.VolumeID != "64220cb5-c301-41b1-b4f1-e5756b3171dc" || len(s.Tolerations) != 1 {
		t.Errorf("spec = %+v", s)
	}
	for _, want := range []string{`unknown field "extra"`, `unknown option "made.up"`} {
		if !strings.Contains(diagnostics, want) {
			t.Errorf("no warning %q in:\n%s", want, diagnostics)
		}
	}
}

func TestConvertKadaluRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no type":    "metadata: {name: p}\nspec: {storage: [{pvc: a}]}",
		"no storage": "metadata: {name: p}\nspec: {type: Replica1}",
		"two places": "metadata: {name: p}\nspec: {type: Replica1, storage: [{node: a, path: /x, device: /dev/b}]}",
		"no volume":  "metadata: {name: p}\nspec: {type: External, details: {gluster_host: a.b}}",
		"two volumes": "metadata: {name: p}\nspec: {type: External, details: " +
			"[{gluster_node: a.b, gluster_volname: x}, {gluster_node: c.d, gluster_volname: y}]}",
		"no name":       "metadata: {}\nspec: {type: Replica1, storage: [{pvc: a}]}",
		"not a mapping": "- 1",
		"empty":         "",
	} {
		if pool, diagnostics := convert(t, text); pool != nil || diagnostics == "" {
			t.Errorf("%s: accepted (%q)", name, diagnostics)
		}
	}
}
