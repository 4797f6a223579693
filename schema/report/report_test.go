package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/schema"
)

var summary = Summarize(2, []schema.Diagnostic{
	{
		Position: schema.Position{File: "a,b.yaml", Line: 3, Column: 7}, Severity: schema.SeverityError, Code: "value",
		Path: "spec.type", Message: "100% wrong\nand more", Allowed: "right",
	},
	{Position: schema.Position{File: "c.yaml"}, Severity: schema.SeverityWarning, Code: "limit", Message: "doubtful"},
})

func format(t *testing.T, name string) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, name, summary); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	for name, wants := range map[string][]string{
		"text": {
			"a,b.yaml:3:7: spec.type: 100% wrong\nand more; right\n", "c.yaml: warning: doubtful\n",
			"2 pools, 1 error, 1 warning\n",
		},
		"json": {`"line": 3`, `"errors": 1`},
		"yaml": {"line: 3", "errors: 1"},
		// Workflow commands escape the characters that would end them.
		"github": {
			"::error file=a%2Cb.yaml,line=3,col=7,title=atoll value::spec.type: 100%25 wrong%0Aand more; right\n",
			"::warning file=c.yaml,title=atoll limit::doubtful\n",
		},
		"sarif": {`"ruleId": "value"`, `"startLine": 3`, `"level": "warning"`},
	} {
		got := format(t, name)
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in:\n%s", name, want, got)
			}
		}
	}
	if err := Write(&bytes.Buffer{}, "csv", summary); err == nil {
		t.Error("an unknown format was accepted")
	}
}

// TestSARIF checks the fields that code scanning reads.
func TestSARIF(t *testing.T) {
	var log sarifLog
	if err := json.Unmarshal([]byte(format(t, "sarif")), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || len(log.Runs[0].Tool.Driver.Rules) != 2 ||
		len(log.Runs[0].Results) != 2 {
		t.Errorf("%+v", log)
	}
	if at := log.Runs[0].Results[1].Locations[0].Physical; at.Region != nil || at.Artifact.URI != "c.yaml" {
		t.Errorf("a file without a line has a region: %+v", at)
	}
}
