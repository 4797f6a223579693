// Package source reconciles the pools of a directory, such as one that git-sync maintains,
// without custom resources. This is folder mode.
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
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/conditions"
	"github.com/atoll-storage/atoll/reconciler/pools"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
)

// FolderSource is the source in the inventories of pools from a directory. Only these pools are
// removed when their document is deleted.
const FolderSource = "folder"

// Folder reconciles the documents of a directory.
type Folder struct {
	Dir      string
	Pools    *pools.Reconciler
	Writer   client.Client // writes the status of pools
	Interval time.Duration
	Workers  int
	Log      logr.Logger

	mu         sync.Mutex
	lastLogged map[string]string // the last message by topic, to log each message once
}

// Start reconciles the directory until the context ends. It logs errors and retries.
func (f *Folder) Start(ctx context.Context) error {
	changed := f.watch(ctx)
	for {
		if err := f.Sync(ctx); err != nil && ctx.Err() == nil {
			f.logChange("", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(f.Interval):
		}
	}
}

// Sync reconciles the pools of the directory once. An invalid document does not keep other pools
// from being applied. But it keeps all pools from being removed, because it may be the document
// that seems to be missing.
func (f *Folder) Sync(ctx context.Context) error {
	found, err := loader.Load(ctx, loader.Options{}, f.Dir)
	if err != nil {
		return fmt.Errorf("load documents: %w", err)
	}
	complete := len(found.Documents) > 0
	if !complete {
		f.logChange("", "the directory has no documents, all pools stay unchanged")
	}
	for _, d := range found.Diagnostics {
		if d.Severity == schema.SeverityError {
			complete = false
			f.logChange(d.String(), "document is invalid, its pool stays unchanged: "+d.String())
		}
	}
	limit := make(chan struct{}, max(1, f.Workers))
	var wait sync.WaitGroup
	var names []types.NamespacedName
	for _, d := range found.Documents {
		if !d.Valid {
			continue
		}
		names = append(names, f.key(d.Pool))
		wait.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			f.reconcilePool(ctx, d.Pool)
		})
	}
	wait.Wait()
	if !complete {
		return nil // the reason has been logged
	}
	return f.prune(ctx, names)
}

func (f *Folder) key(p *schema.Pool) types.NamespacedName {
	return types.NamespacedName{Namespace: p.NamespaceOr(""), Name: p.Metadata.Name}
}

// reconcilePool reconciles one pool and saves its status.
func (f *Folder) reconcilePool(ctx context.Context, document *schema.Pool) {
	name := f.key(document)
	if document.Spec.Suspend {
		return
	}
	o := &v1alpha1.StoragePool{}
	o.Name, o.Namespace, o.Annotations = name.Name, name.Namespace, document.Metadata.Annotations
	before, err := f.loadStatus(ctx, name)
	if err != nil {
		f.logChange(name.String(), err.Error())
		return
	}
	o.Status = before
	request := reconcile.Request{NamespacedName: name}
	if _, err := f.Pools.ReconcileDocument(ctx, request, o, document, FolderSource); err != nil {
		f.logChange(name.String(), err.Error())
	}
	if err := f.saveStatus(ctx, name, before, o.Status); err != nil {
		f.logChange(name.String(), err.Error())
	}
	for _, c := range o.Status.Conditions {
		if c.Type == "Ready" {
			f.logChange(name.String()+" Ready", fmt.Sprintf("pool %s: %s: %s", name, c.Reason, c.Message))
		}
	}
}

// prune removes the pools whose documents were deleted, if their deletionPolicy is Delete and they
// are empty.
func (f *Folder) prune(ctx context.Context, names []types.NamespacedName) error {
	applied, err := f.Pools.Applier.AppliedDocuments(ctx, "", FolderSource)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range applied {
		name := f.key(p)
		if slices.Contains(names, name) {
			continue
		}
		if p.Spec.DeletionPolicy != "Delete" {
			f.logChange(name.String(), fmt.Sprintf("document of pool %s was deleted; "+
				"the pool stays because its deletionPolicy is Orphan", name))
			continue
		}
		reason, err := pools.InUse(ctx, f.Pools.Client, name.Namespace, p)
		switch {
		case err != nil:
			errs = append(errs, err)
		case reason != "":
			message := fmt.Sprintf("document of pool %s was deleted; the pool keeps running until it is empty: %s",
				name, reason)
			f.logChange(name.String(), message)
			errs = append(errs, f.saveInUse(ctx, name, message))
		default:
			f.logChange(name.String(),
				fmt.Sprintf("document of pool %s was deleted; the pool is empty and is removed", name))
			_, err := f.Pools.Applier.Remove(ctx, name.Namespace, name.Name)
			errs = append(errs, err, f.deleteStatus(ctx, name))
		}
	}
	return errors.Join(errs...)
}

// saveInUse saves why a pool was not removed.
func (f *Folder) saveInUse(ctx context.Context, name types.NamespacedName, message string) error {
	before, err := f.loadStatus(ctx, name)
	if err != nil {
		return err
	}
	o := &v1alpha1.StoragePool{}
	o.Status = before
	o.Status.Conditions = slices.Clone(before.Conditions)
	conditions.MarkFalse(o, meta.ReadyCondition, v1alpha1.ReasonVolumesInUse, "%s", message)
	return f.saveStatus(ctx, name, before, o.Status)
}

// logChange logs a message if it differs from the last one about the topic.
func (f *Folder) logChange(topic, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lastLogged == nil {
		f.lastLogged = map[string]string{}
	}
	if f.lastLogged[topic] == message {
		return
	}
	f.lastLogged[topic] = message
	f.Log.Info(message)
}

func (f *Folder) loadStatus(ctx context.Context, name types.NamespacedName) (s v1alpha1.PoolStatus, err error) {
	var m corev1.ConfigMap
	err = f.Writer.Get(ctx, types.NamespacedName{Namespace: name.Namespace, Name: v1alpha1.StatusName(name.Name)}, &m)
	if apierrors.IsNotFound(err) {
		return s, nil
	}
	if err == nil {
		_ = json.Unmarshal([]byte(m.Data[v1alpha1.StatusKey]), &s) // an unreadable status is overwritten
	}
	return s, err
}

func (f *Folder) saveStatus(ctx context.Context, name types.NamespacedName, before, now v1alpha1.PoolStatus) error {
	old, err := json.Marshal(before)
	if err != nil {
		return err
	}
	text, err := json.Marshal(now)
	if err != nil || string(old) == string(text) {
		return err
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: name.Namespace, Name: v1alpha1.StatusName(name.Name),
		Labels: map[string]string{
			render.LabelPool: name.Name, apply.LabelInventory: "status", v1alpha1.LabelStatus: "true",
		},
	}, Data: map[string]string{v1alpha1.StatusKey: string(text)}}
	err = f.Writer.Update(ctx, m)
	if apierrors.IsNotFound(err) {
		err = f.Writer.Create(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("save status of pool %s: %w", name, err)
	}
	return nil
}

func (f *Folder) deleteStatus(ctx context.Context, name types.NamespacedName) error {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: name.Namespace,
		Name:      v1alpha1.StatusName(name.Name),
	}}
	return client.IgnoreNotFound(f.Writer.Delete(ctx, m))
}
