package pools

import (
	"context"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/reconciler/apply"
)

// appliedCache remembers the versions of a pool's objects after they were applied completely, so
// that unchanged pools cost no requests. An entry is only ever compared with the versions in the
// cluster; it never replaces reading them.
type appliedCache struct {
	mu    sync.Mutex
	pools map[ctrl.Request]string
}

func (s *appliedCache) forget(pool ctrl.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pools, pool)
}

// unchanged reports whether the objects of a pool have the versions that were last recorded.
func (s *appliedCache) unchanged(pool ctrl.Request, versions string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return versions != "" && s.pools[pool] == versions
}

// record remembers the versions of the objects after a run: those from before it, when it wrote
// nothing, or those that it wrote, when it wrote all objects. When it wrote only some, other
// writers may have changed the rest since, so that nothing is recorded and the next run compares
// again.
func (s *appliedCache) record(pool ctrl.Request, before, revision string, done apply.Result) {
	states, written := []string{revision}, 0
	for _, c := range done.Changes {
		switch {
		case c.State != "":
			states, written = append(states, c.State), written+1
		case c.Action == apply.Deleted:
			written = -len(done.Changes)
		}
	}
	versions := before
	switch written {
	case 0:
	case len(done.Changes):
		versions = strings.Join(states, "\n")
	default:
		versions = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pools == nil {
		s.pools = map[ctrl.Request]string{}
	}
	s.pools[pool] = versions
}

// versionsOf reads the versions of all objects of a pool; "" when one of them does not exist.
func versionsOf(ctx context.Context, c client.Reader, d *renderedPool) string {
	all := []string{d.revision}
	for _, object := range d.objects {
		existing := &metav1.PartialObjectMetadata{}
		existing.SetGroupVersionKind(object.kind)
		if err := c.Get(ctx, object.key, existing); err != nil {
			return ""
		}
		all = append(all, apply.State(existing))
	}
	return strings.Join(all, "\n")
}
