package agent

import (
	"os"
	"strings"
	"testing"
)

// TestGaugesAreDocumented checks that docs/bricks.md lists every gauge.
func TestGaugesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/bricks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gauges {
		if !strings.Contains(string(text), "`"+g.name+"`") {
			t.Errorf("docs/bricks.md does not list %s", g.name)
		}
	}
}
