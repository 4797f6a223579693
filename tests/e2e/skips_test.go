package e2e

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/tests/internal/report"
)

// explanation is what reasons for skipped specs mean, for docs/conformance.md.
type explanation struct {
	reasons *regexp.Regexp
	text    string
}

var filesExplanations = []explanation{
	{
		regexp.MustCompile(`PreprovisionedPV`),
		"the suite cannot create volumes of an external driver in advance; `make e2e` tests static volumes",
	},
	{regexp.MustCompile(`InlineVolume`), "only ephemeral drivers support them"},
	{regexp.MustCompile(`covered by block volume case`), "the suite's own choice"},
	{regexp.MustCompile(`support Block|raw block|block volume mode`), "the pool serves files"},
	{regexp.MustCompile(`ext3|ext4`), "the file system is GlusterFS"},
	{regexp.MustCompile(`clon|snapshot`), "Subdirectory volumes do not support them"},
	{regexp.MustCompile(`SSH`), "the spec logs into nodes; the test cluster's have no SSH"},
}

var blocksExplanations = []explanation{
	{regexp.MustCompile(`PreprovisionedPV|InlineVolume`), "as above"},
	{regexp.MustCompile(`ROX`), "a volume is attached to one node at a time"},
	{regexp.MustCompile(`RWX`), "the same; raw volumes can be shared with a separate StorageClass"},
	{regexp.MustCompile(`GenericEphemeralVolume|ephemeral`), "the suite's own choice of kinds"},
	{regexp.MustCompile(`Block|block|same volumeHandle`), "the suite's own choice"},
	{regexp.MustCompile(`ext3`), "xfs and ext4 are served"},
	{regexp.MustCompile(`SSH`), "the spec logs into nodes; the test cluster's have no SSH"},
}

// skips are skipped specs by explanation.
type skips struct {
	explanations []explanation
	counts       map[string]int      // by the text of an explanation, or by reason without one
	reasons      map[string][]string // the same
}

func newSkips(explanations []explanation) *skips {
	return &skips{explanations, map[string]int{}, map[string][]string{}}
}

func (s *skips) add(reason string) {
	key := reason
	if i := slices.IndexFunc(s.explanations,
		func(e explanation) bool { return e.reasons.MatchString(reason) }); i >= 0 {
		key = strconv.Itoa(i)
	}
	s.counts[key]++
	if !slices.Contains(s.reasons[key], reason) {
		s.reasons[key] = append(s.reasons[key], reason)
	}
}

// table lists the reasons, the most frequent first.
func (s *skips) table() string {
	t := report.Head(0, "Skipped", "Reason that the suite reports", "Explanation")
	var keys []string
	for key := range s.counts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(s.counts[b]-s.counts[a], strings.Compare(a, b)) })
	for _, key := range keys {
		text := ""
		if i, err := strconv.Atoi(key); err == nil {
			text = s.explanations[i].text
		}
		slices.Sort(s.reasons[key])
		t.Row(strconv.Itoa(s.counts[key]), strings.Join(s.reasons[key], ", "), text)
	}
	return t.String()
}

// TestConformanceTable renders the tables of docs/conformance.md from a few specs.
func TestConformanceTable(t *testing.T) {
	skipped := func(name, message string) spec {
		s := spec{Name: "External Storage [Testpattern: x] " + name + " should work", Status: "skipped"}
		s.Skipped = &struct {
			Message string `xml:"message,attr"`
		}{message}
		return s
	}
	d := driver{groups: []string{"volumes", "subPath"}, explanations: filesExplanations}
	got := conformance(d, []spec{
		{Name: "[Testpattern: x] volumes should store data", Status: "passed"},
		{Name: "[Testpattern: x] subPath should fail", Status: "failed"},
		skipped("volumes", "skipped - Driver doesn't support ext3 -- skipping"),
		skipped("volumes", "skipped - Driver doesn't support ext4 -- skipping"),
		skipped("subPath", "skipped - something new\nat line 7"), skipped("other", "skipped - not counted"),
		skipped("volumes", "skipped"),
	})
	for _, row := range []string{
		"| volumes | 1 | 0 | 2 |", "| subPath | 0 | 1 | 1 |", "| **all** | **1** | **1** | **3** |",
		"| 2 | Driver doesn't support ext3 -- skipping, Driver doesn't support ext4 -- skipping | the file system is GlusterFS |", "| 1 | something new |  |",
	} {
		if !strings.Contains(got, row+"\n") {
			t.Errorf("the tables lack %s:\n%s", row, got)
		}
	}
}
