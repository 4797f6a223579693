// Package source makes a cluster have the pools of a folder, such as one that git-sync
// keeps, without custom resources.
package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/pools"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
)

// FolderSource is on the inventories of pools that came from a folder: only these are removed when
// their document goes.
const FolderSource = "folder"

// Folder follows the documents of a folder.
type Folder struct {
	Dir      string
	Pools    *pools.Reconciler
	Writer   client.Client // of the status of pools
	Interval time.Duration
	Workers  int
	Log      logr.Logger

	mu   sync.Mutex
	said map[string]string // what was last said of a pool, so that it is said once
}

// Start follows the folder until the context ends. What is wrong with it is told of, and
// tried again.
func (f *Folder) Start(ctx context.Context) error {
	changed := f.watch(ctx)
	for {
		if err := f.Once(ctx); err != nil && ctx.Err() == nil {
			f.say("", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(f.Interval):
		}
	}
}

// Once makes the cluster have the folder's pools. A document that is wrong keeps no other
// pool from being applied, and all from being removed: it may be one of those that seem to
// be missing.
func (f *Folder) Once(ctx context.Context) error {
	found, err := loader.Load(ctx, loader.Options{}, f.Dir)
	if err != nil {
		return fmt.Errorf("reading the folder: %w", err)
	}
	whole := len(found.Documents) > 0
	for _, d := range found.Diagnostics {
		if d.Severity == schema.SeverityError {
			whole = false
			f.say(d.String(), "a document is wrong, and its pool stays as it is: "+d.String())
		}
	}
	limit := make(chan struct{}, max(1, f.Workers))
	var wait sync.WaitGroup
	var names []types.NamespacedName
	for _, d := range found.Documents {
		if !d.Valid {
			continue
		}
		names = append(names, f.name(d.Pool))
		wait.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			f.pool(ctx, d.Pool)
		})
	}
	wait.Wait()
	if !whole {
		return nil // it has been told why
	}
	return f.prune(ctx, names)
}

func (f *Folder) name(p *schema.Pool) types.NamespacedName {
	return types.NamespacedName{Namespace: p.NamespaceOr(""), Name: p.Metadata.Name}
}

// pool makes the cluster have one pool, and writes down how it is.
func (f *Folder) pool(ctx context.Context, document *schema.Pool) {
	name := f.name(document)
	if document.Spec.Suspend {
		return
	}
	o := &v1alpha1.StoragePool{}
	o.Name, o.Namespace, o.Annotations = name.Name, name.Namespace, document.Metadata.Annotations
	before, err := f.load(ctx, name)
	if err != nil {
		f.say(name.String(), err.Error())
		return
	}
	o.Status = before
	if _, err := f.Pools.Follow(ctx, reconcile.Request{NamespacedName: name}, o, document, FolderSource); err != nil {
		f.say(name.String(), err.Error())
	}
	if err := f.save(ctx, name, before, o.Status); err != nil {
		f.say(name.String(), err.Error())
	}
	for _, c := range o.Status.Conditions {
		if c.Type == "Ready" {
			f.say(name.String()+" Ready", fmt.Sprintf("pool %s: %s: %s", name, c.Reason, c.Message))
		}
	}
}

// prune removes pools whose documents have gone, when they say deletionPolicy: Delete and
// nothing is on them.
func (f *Folder) prune(ctx context.Context, names []types.NamespacedName) error {
	applied, err := f.Pools.Applier.Applied(ctx, "", FolderSource)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range applied {
		name := f.name(p)
		if slices.Contains(names, name) {
			continue
		}
		if p.Spec.DeletionPolicy != "Delete" {
			f.say(name.String(), fmt.Sprintf("the document of pool %s has gone: the pool stays, as its deletionPolicy says", name))
			continue
		}
		reason, err := pools.InUse(ctx, f.Pools.Client, name.Namespace, p)
		switch {
		case err != nil:
			errs = append(errs, err)
		case reason != "":
			message := fmt.Sprintf("the document of pool %s has gone, and the pool keeps running: %s", name, reason)
			f.say(name.String(), message)
			errs = append(errs, f.stays(ctx, name, message))
		default:
			f.say(name.String(), fmt.Sprintf("the document of pool %s has gone, nothing is on it, and it goes", name))
			_, err := f.Pools.Applier.Remove(ctx, name.Namespace, name.Name)
			errs = append(errs, err, f.forget(ctx, name))
		}
	}
	return errors.Join(errs...)
}

// stays writes down why a pool is still there.
func (f *Folder) stays(ctx context.Context, name types.NamespacedName, message string) error {
	before, err := f.load(ctx, name)
	if err != nil {
		return err
	}
	o := &v1alpha1.StoragePool{}
	o.Status = before
	o.Status.Conditions = slices.Clone(before.Conditions)
	conditions.MarkFalse(o, meta.ReadyCondition, v1alpha1.ReasonVolumesInUse, "%s", message)
	return f.save(ctx, name, before, o.Status)
}

// say logs what has changed since it was said last.
func (f *Folder) say(of, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said == nil {
		f.said = map[string]string{}
	}
	if f.said[of] == message {
		return
	}
	f.said[of] = message
	f.Log.Info(message)
}

func (f *Folder) load(ctx context.Context, name types.NamespacedName) (s v1alpha1.PoolStatus, err error) {
	var m corev1.ConfigMap
	err = f.Writer.Get(ctx, types.NamespacedName{Namespace: name.Namespace, Name: v1alpha1.StatusName(name.Name)}, &m)
	if apierrors.IsNotFound(err) {
		return s, nil
	}
	if err == nil {
		_ = json.Unmarshal([]byte(m.Data[v1alpha1.StatusKey]), &s) // what cannot be read is written anew
	}
	return s, err
}

func (f *Folder) save(ctx context.Context, name types.NamespacedName, before, now v1alpha1.PoolStatus) error {
	was, err := json.Marshal(before)
	if err != nil {
		return err
	}
	text, err := json.Marshal(now)
	if err != nil || string(was) == string(text) {
		return err
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: name.Namespace, Name: v1alpha1.StatusName(name.Name), Labels: map[string]string{render.LabelPool: name.Name, apply.LabelInventory: "status", v1alpha1.LabelStatus: "true"},
	}, Data: map[string]string{v1alpha1.StatusKey: string(text)}}
	err = f.Writer.Update(ctx, m)
	if apierrors.IsNotFound(err) {
		err = f.Writer.Create(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("writing down how pool %s is: %w", name, err)
	}
	return nil
}

func (f *Folder) forget(ctx context.Context, name types.NamespacedName) error {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: v1alpha1.StatusName(name.Name)}}
	return client.IgnoreNotFound(f.Writer.Delete(ctx, m))
}
