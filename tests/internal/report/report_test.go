package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWrite replaces a table in a page, and leaves everything else as it is.
func TestWrite(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	const text = "# Page\n\n<!-- begin one: written by make bench -->\nold\n<!-- end one -->\n\nmiddle\n\n<!-- begin two: written by make e2e -->\n<!-- end two -->\n"
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	table := Head(1, "Pool", "rate")
	table.Row("fast", "7")
	for range 2 { // the second time replaces the first
		if err := Write(page, "one", table.String()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(got), "Measured on ")
	_, after, _ := strings.Cut(rest, ".\n\n")
	if want := "# Page\n\n<!-- begin one: written by make bench -->\n\n| Pool | rate |\n| --- | ---: |\n| fast | 7 |\n\n"; before != want {
		t.Errorf("before: %q, want %q", before, want)
	}
	if want := "<!-- end one -->\n\nmiddle\n\n<!-- begin two: written by make e2e -->\n<!-- end two -->\n"; !strings.HasSuffix(after, want) {
		t.Errorf("after: %q, want the end %q", after, want)
	}
	if err := Write(page, "three", ""); err == nil {
		t.Error("a table without a place was written")
	}
}

// TestDescribe describes a machine.
func TestDescribe(t *testing.T) {
	got := describe("abc", time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC), "processor\t: 0\nmodel name\t: AMD  EPYC 7\n",
		"MemTotal:       24576000 kB\n", "6.1.0\n", 2)
	if !strings.HasPrefix(got,
		"Measured on 2026-02-03 at commit abc: 2 cores of AMD EPYC 7, 23 GiB of memory, Linux 6.1.0, go") {
		t.Error(got)
	}
}

// TestPagesHaveMarkers checks the places of all tables that commands write.
func TestPagesHaveMarkers(t *testing.T) {
	for page, names := range map[string][]string{
		"benchmarks.md":    {"documents", "volumes", "restart", "pools"},
		"block-volumes.md": {"speed"},
		"reliability.md":   {"faults"},
		"conformance.md":   {"files", "blocks"},
	} {
		text, err := os.ReadFile(filepath.Join("../../../docs", page))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if _, err := replace(string(text), name, "x"); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}
