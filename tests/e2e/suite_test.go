package e2e

import (
	"context"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/report"
)

// suite is set by make e2e-k8s.
var suite = flag.Bool("suite", false, "only Kubernetes' own external storage suite")

// groups are the test groups to run: those of everything that the driver serves.
var groups = []string{
	"provisioning", "volumes", "volumeMode", "subPath", "multiVolume", "volume-expand",
	"fsgroupchangepolicy", "volume-stress", "read-write-once-pod", "volumeIO",
}

// without are specs that need images which cannot be built from modules: a volume populator
// and its validator. The environment variable may name more, as a pattern.
const without = "any volume data source"

// suiteLimit is the timeout for all groups, which run one spec after another.
const suiteLimit = 80 * time.Minute

// driver is a StorageClass for the suite, with the groups of what it serves.
type driver struct {
	name, file   string
	groups       []string
	explanations []explanation
}

// drivers are the classes that the suite runs with, one after another: subdirectories and
// block volumes of one pool.
var drivers = []driver{
	{"files", "storage-driver.yaml", groups, filesExplanations},
	{
		"blocks", "storage-driver-block.yaml", append(slices.Clone(groups), "snapshottable", "snapshottable-stress"),
		blocksExplanations,
	},
}

// TestKubernetesSuite runs Kubernetes' tests of storage drivers, and writes the tables of
// docs/conformance.md.
func TestKubernetesSuite(t *testing.T) {
	if !*suite {
		t.Skip("part of make e2e-k8s")
	}
	e := boot(t)
	program := filepath.Join(e.Programs, "e2e.test")
	if _, err := os.Stat(program); err != nil {
		t.Skip("the suite is not built: run make e2e-k8s")
	}
	e.apply(poolDocument("suite", `
  type: Replica3
  bricks:
  - {node: n1, device: /dev/disk/by-id/disk-7}
  - {node: n2, device: /dev/disk/by-id/disk-7}
  - {node: n3, device: /dev/disk/by-id/disk-7}
  volumes: [Subdirectory, Block]`+small))
	e.waitHealthy("suite")
	for _, d := range drivers {
		if only := os.Getenv("ATOLL_SUITE_DRIVER"); only != "" && only != d.name {
			continue
		}
		t.Run(d.name, func(t *testing.T) { (&env{T: t, Cluster: e.Cluster}).suite(program, d) })
	}
	e.checkNoLeftovers("suite")
}

// suite runs the suite with a driver's capabilities.
func (e *env) suite(program string, d driver) {
	file, err := filepath.Abs("testdata/" + d.file)
	if err != nil {
		e.Fatal(err)
	}
	result, log := filepath.Join(e.Dir, "log/suite-"+d.name+".xml"), filepath.Join(e.Dir, "log/suite-"+d.name+".log")
	out, err := os.Create(log)
	if err != nil {
		e.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(context.Background(), suiteLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-kubeconfig", e.Kubeconfig, "-provider=skeleton",
		"-storage.testdriver="+file,
		"-kubectl-path="+filepath.Join(e.Programs, "kubectl"), "--ginkgo.no-color", "--ginkgo.v",
		"--ginkgo.timeout="+suiteLimit.String(),
		"--ginkgo.junit-report="+result, "--ginkgo.focus="+focusPattern(d.groups), "--ginkgo.skip="+skipPattern())
	cmd.Stdout, cmd.Stderr = out, out
	failed := cmd.Run()
	if failed != nil {
		e.Errorf("the suite: %v; %s has its output", failed, log)
	}
	specs, err := readSpecs(result)
	if err != nil {
		e.Fatal(err)
	}
	table := conformance(d, specs)
	e.Log("\n" + table)
	if *docsDir != "" && os.Getenv("ATOLL_SUITE_FOCUS") == "" && os.Getenv("ATOLL_SUITE_SKIP") == "" {
		if err := report.Write(filepath.Join(*docsDir, "conformance.md"), d.name, table); err != nil {
			e.Error(err)
		}
	}
}

// focusPattern matches all specs of groups, or those whose names match a pattern:
// 'ATOLL_SUITE_DRIVER=blocks ATOLL_SUITE_FOCUS="on the same node" make e2e-k8s'.
func focusPattern(groups []string) string {
	return `External.Storage.*\] (` + strings.Join(groups, "|") + `) .*` + os.Getenv("ATOLL_SUITE_FOCUS")
}

func skipPattern() string {
	if more := os.Getenv("ATOLL_SUITE_SKIP"); more != "" {
		return without + "|" + more
	}
	return without
}

// spec is a spec in the suite's report.
type spec struct {
	Name    string `xml:"name,attr"`
	Status  string `xml:"status,attr"`
	Skipped *struct {
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
}

func readSpecs(file string) ([]spec, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var junit struct {
		Suites []struct {
			Specs []spec `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &junit); err != nil {
		return nil, err
	}
	var all []spec
	for _, s := range junit.Suites {
		all = append(all, s.Specs...)
	}
	return all, nil
}

var groupOf = regexp.MustCompile(`\[Testpattern: ([^\]]*)\] ([A-Za-z-]+)`)

// conformance renders a table of counts by group, and one of the reasons for skipped specs.
// Specs that were not selected have no message.
func conformance(d driver, specs []spec) string {
	type counts struct{ passed, failed, skipped int }
	per, skips := map[string]*counts{}, newSkips(d.explanations)
	for _, g := range d.groups {
		per[g] = &counts{}
	}
	for _, s := range specs {
		m := groupOf.FindStringSubmatch(s.Name)
		if m == nil || per[m[2]] == nil {
			continue
		}
		c := per[m[2]]
		switch {
		case s.Status == "passed":
			c.passed++
		case s.Status == "skipped" && s.Skipped != nil && s.Skipped.Message != "skipped" && s.Skipped.Message != "":
			c.skipped++
			skips.add(reason(s.Skipped.Message))
		case s.Status == "skipped":
		default:
			c.failed++
		}
	}
	row := func(c counts, format string) []string {
		return []string{fmt.Sprintf(format, c.passed), fmt.Sprintf(format, c.failed), fmt.Sprintf(format, c.skipped)}
	}
	table := report.Head(1, "Group", "Passed", "Failed", "Skipped")
	var all counts
	for _, g := range d.groups {
		c := *per[g]
		table.Row(append([]string{g}, row(c, "%d")...)...)
		all = counts{all.passed + c.passed, all.failed + c.failed, all.skipped + c.skipped}
	}
	table.Row(append([]string{"**all**"}, row(all, "**%d**")...)...)
	return table.String() + "\n" + skips.table()
}

// reason is the first line of a message, without its source.
func reason(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	return strings.TrimSpace(strings.TrimPrefix(message, "skipped - "))
}
