package render_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/atoll-storage/atoll/render"
)

// TestRebalanceLayout: the rebalance pod is for the layout of the volfile that is rendered with it,
// and every other layout is another pod.
func TestRebalanceLayout(t *testing.T) {
	p := load(t, "../examples/pools/distribute.yaml")[0]
	layout := func() string {
		t.Helper()
		var found, volfile string
		for _, o := range objects(t, p) {
			switch o := o.(type) {
			case *appsv1.Deployment:
				found = render.RebalanceLayout(o)
			case *corev1.ConfigMap:
				volfile += o.Data["rebalance.vol"]
			}
		}
		if found == "" || !strings.Contains(volfile, "option commit-hash "+found+"\n") {
			t.Errorf("layout %q, volfile:\n%s", found, volfile)
		}
		return found
	}
	before := layout()
	for i := len(p.Spec.Bricks) - p.Spec.SetSize(); i < len(p.Spec.Bricks); i++ {
		p.Spec.Bricks[i].Decommissioned = true
	}
	if leaving := layout(); leaving == before {
		t.Errorf("layout %s with and without a decommissioned set", leaving)
	}
	if got := render.RebalanceLayout(&appsv1.Deployment{}); got != "" {
		t.Errorf("a Deployment without a layout: %q", got)
	}
}
