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

// appliedCache remembers how the objects of pools were when all of them were as they should be,
// so that pools that nobody has touched cost no requests. What it remembers is never more
// than that: it is compared with what the cluster has, every time.
type appliedCache struct {
	mu    sync.Mutex
	pools map[ctrl.Request]string
}

func (s *appliedCache) forget(pool ctrl.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pools, pool)
}

// is tells whether a pool's objects are as they were when all was as it should be.
func (s *appliedCache) is(pool ctrl.Request, now string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now != "" && s.pools[pool] == now
}

// note remembers how objects are after a run: as they were before it, when it has found
// nothing to write, or as they were when it had written them, when that was all of them. If
// it wrote some, it is not known what else was written meanwhile: the next run looks.
func (s *appliedCache) note(pool ctrl.Request, before, revision string, done apply.Result) {
	states, written := []string{revision}, 0
	for _, c := range done.Changes {
		switch {
		case c.State != "":
			states, written = append(states, c.State), written+1
		case c.Action == apply.Deleted:
			written = -len(done.Changes)
		}
	}
	now := before
	switch written {
	case 0:
	case len(done.Changes):
		now = strings.Join(states, "\n")
	default:
		now = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pools == nil {
		s.pools = map[ctrl.Request]string{}
	}
	s.pools[pool] = now
}

// fingerprint is another one whenever somebody has changed an object of the pool; "" when
// one of them is not there.
func fingerprint(ctx context.Context, c client.Reader, d *rendered) string {
	all := []string{d.revision}
	for _, object := range d.objects {
		is := &metav1.PartialObjectMetadata{}
		is.SetGroupVersionKind(object.kind)
		if err := c.Get(ctx, object.key, is); err != nil {
			return ""
		}
		all = append(all, apply.State(is))
	}
	return strings.Join(all, "\n")
}
