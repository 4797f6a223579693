package main

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/status"
)

// TestPrintStatus checks the tables, with and without colours. tests/apiserver runs the commands
// against a cluster.
func TestPrintStatus(t *testing.T) {
	provisioned := int64(5 << 30)
	all := []status.Pool{
		{Kind: "Document", Namespace: "a", Name: "unseen", Status: v1alpha1.PoolStatus{Backlog: -1}},
		{Kind: "StoragePool", Namespace: "a", Name: "fast", Type: "Replica3", Status: v1alpha1.PoolStatus{
			BricksOnline: "1/2", SizeBytes: 3 << 40, FreeBytes: 3 << 29, PromisedBytes: &provisioned, Volumes: 7,
			Conditions: []metav1.Condition{{
				Type: "Ready", Status: "False", Reason: "BricksAway",
				Message: "brick 1\nis offline",
			}, {Type: "Stalled", Status: "True"}},
			Bricks: []v1alpha1.BrickStatus{
				{Place: "n:/a", Phase: "Online", Online: true, Outdated: true},
				{Index: 1, Place: "n:/b", Phase: "Offline", Message: "no answer"},
			},
		}},
	}
	paint := func(good bool, text string) string {
		if good {
			return "+" + text
		}
		return "-" + text
	}
	var list, details strings.Builder
	printPools(&list, paint, all)
	printDetails(&details, paint, all[1:])
	for _, want := range []string{
		"unseen", "-Unknown", "not reconciled yet", "1.5 GiB of 3 TiB", "5 GiB", "-False",
		"BricksAway", "?",
	} {
		if !strings.Contains(list.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, list.String())
		}
	}
	for _, want := range []string{
		"brick 1 is offline", "-True", "+Online", "-Offline", "outdated, to be restarted",
		"no answer", "7 volumes", "free, 5 GiB provisioned",
	} {
		if !strings.Contains(details.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, details.String())
		}
	}
	if got := painterFor(&list)(true, "x"); got != "x" {
		t.Errorf("outside of a terminal, the text is %q", got)
	}
}
