// Package follow copies the catalog's ConfigMaps of a cluster into a catalog directory, and
// follows their changes.
package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/atoll-storage/atoll/csi/catalog"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// resync is how often everything is compared, even without events.
const resync = 10 * time.Minute

// reportEvery is how often the log says why nothing is listed yet.
const reportEvery = 5 * time.Second

// Follower writes the ConfigMaps with the catalog's label into a directory. Only those of its
// namespaces count: a client graph decides what a node's clients open, as root, so write access
// to one equals root on the nodes.
type Follower struct {
	Client     kubernetes.Interface
	Namespaces []string // of two pools with one name, that of the first namespace counts
	Folder     catalog.Folder
	Log        logr.Logger

	following atomic.Bool
}

// Following reports whether the directory has matched the cluster since the start.
func (f *Follower) Following() bool { return f.following.Load() }

// Run follows until the context ends. Until all ConfigMaps are listed, and while the cluster
// cannot be reached, the directory stays unchanged.
func (f *Follower) Run(ctx context.Context) error {
	if err := os.MkdirAll(f.Folder.Dir, 0o755); err != nil {
		return fmt.Errorf("create the catalog directory: %w", err)
	}
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	notice := func() {
		select {
		case changed <- struct{}{}:
		default: // a write is pending
		}
	}
	var sources []listers.ConfigMapLister
	for _, namespace := range f.Namespaces {
		l, err := f.watch(ctx, namespace, notice)
		if err != nil {
			return err
		}
		sources = append(sources, l)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if err := f.write(sources); err != nil {
			f.Log.Error(err, "writing the catalog failed; retrying")
			time.AfterFunc(time.Second, notice)
			continue
		}
		f.following.Store(true)
	}
}

// watch starts an informer for a namespace and waits until it has listed everything.
func (f *Follower) watch(ctx context.Context, namespace string, notice func()) (listers.ConfigMapLister, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(f.Client, resync, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.LabelSelector = labels.Set{entry.Label: entry.LabelValue}.String()
		}))
	maps := factory.Core().V1().ConfigMaps()
	if _, err := maps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notice() },
		UpdateFunc: func(any, any) { notice() },
		DeleteFunc: func(any) { notice() },
	}); err != nil {
		return nil, fmt.Errorf("watch the catalog's ConfigMaps: %w", err)
	}
	factory.Start(ctx.Done())
	f.waitListed(ctx, namespace, maps.Informer().HasSynced)
	return maps.Lister(), nil
}

// waitListed waits until everything is listed, or the context ends, and logs why it takes long:
// client-go repeats refused connections without a word.
func (f *Follower) waitListed(ctx context.Context, namespace string, listed cache.InformerSynced) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, reportEvery)
		done := cache.WaitForCacheSync(limited.Done(), listed)
		cancel()
		if done {
			return
		}
		if err := f.tryList(ctx, namespace); err != nil && ctx.Err() == nil {
			f.Log.Info("cannot list the catalog's ConfigMaps; the directory stays as it is", "namespace", namespace,
				"error", err.Error())
		}
	}
}

// tryList lists at most one ConfigMap of a namespace.
func (f *Follower) tryList(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, reportEvery)
	defer cancel()
	_, err := f.Client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	return err
}

// write makes the directory match the ConfigMaps.
func (f *Follower) write(sources []listers.ConfigMapLister) error {
	wanted := map[string]bool{}
	var errs []error
	for _, source := range sources {
		all, err := source.List(labels.Everything())
		if err != nil {
			return err
		}
		slices.SortFunc(all, older)
		for _, m := range all {
			pool := m.Labels[entry.LabelPool]
			if wanted[pool] {
				f.Log.Info("ConfigMap ignored: another one has the same pool name", "pool", pool, "namespace",
					m.Namespace, "configMap", m.Name)
				continue
			}
			changed, err := f.Folder.Write(pool, m.Data)
			if errors.Is(err, catalog.ErrNoPool) {
				f.Log.Info("ConfigMap ignored: its label names no pool", "label", entry.LabelPool, "namespace",
					m.Namespace, "configMap", m.Name)
				continue
			}
			wanted[pool] = true
			if changed {
				f.Log.Info("pool changed in the catalog", "pool", pool)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, f.drop(wanted))...)
}

// older sorts by creation time, then by name.
func older(a, b *corev1.ConfigMap) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// drop removes the pools that are no longer wanted.
func (f *Follower) drop(wanted map[string]bool) error {
	names, err := f.Folder.Names()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if !wanted[name] {
			f.Log.Info("pool removed from the catalog", "pool", name)
			errs = append(errs, f.Folder.Remove(name))
		}
	}
	return errors.Join(errs...)
}
