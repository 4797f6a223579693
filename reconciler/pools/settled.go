package pools

import (
	"context"
	"fmt"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/reconciler/apply"
)

// settled remembers how the objects of pools were when all of them were as they should be,
// so that pools that nobody has touched cost no requests. What it remembers is never more
// than that: it is compared with what the cluster has, every time.
type settled struct {
	mu    sync.Mutex
	pools map[ctrl.Request]string
}

func (s *settled) forget(pool ctrl.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pools, pool)
}

// is tells whether a pool's objects are as they were when all was as it should be.
func (s *settled) is(pool ctrl.Request, now string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now != "" && s.pools[pool] == now
}

// note remembers how objects were before a run that has found nothing to write. After one
// that wrote, nobody can tell what else was written meanwhile.
func (s *settled) note(pool ctrl.Request, before string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pools == nil {
		s.pools = map[ctrl.Request]string{}
	}
	s.pools[pool] = before
}

// fingerprint is another one whenever somebody has changed an object of the pool; "" when
// one of them is not there.
func fingerprint(ctx context.Context, c client.Reader, p apply.Pool, revision string) string {
	all := []string{revision}
	for _, o := range p.Objects {
		is := &metav1.PartialObjectMetadata{}
		is.SetGroupVersionKind(o.GetObjectKind().GroupVersionKind())
		if err := c.Get(ctx, client.ObjectKeyFromObject(o), is); err != nil {
			return ""
		}
		version := is.ResourceVersion
		if is.Generation > 0 { // its status changes all the time, and is not ours
			version = fmt.Sprint(is.Generation, is.Labels, is.Annotations)
		}
		all = append(all, string(is.UID)+" "+version)
	}
	return strings.Join(all, "\n")
}
