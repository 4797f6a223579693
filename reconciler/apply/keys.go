package apply

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
)

// keyedFor is how long keys that were seen are taken to be there.
const keyedFor = time.Minute

// keyBytes is how many random bytes a key of the agents is made of.
const keyBytes = 32

// keys makes sure that the agents of a namespace have the keys that the driver signs its
// requests with. They are made once, in the driver's namespace, and copied to others. A
// Secret that is there is never changed: who rotates keys does that.
func (a *Applier) keys(ctx context.Context, namespace string) error {
	a.mu.Lock()
	seen := time.Since(a.keyed[namespace]) < keyedFor
	a.mu.Unlock()
	if seen {
		return nil
	}
	if err := a.makeKeys(ctx, namespace); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keyed == nil {
		a.keyed = map[string]time.Time{}
	}
	a.keyed[namespace] = time.Now()
	return nil
}

func (a *Applier) makeKeys(ctx context.Context, namespace string) error {
	if namespace == schema.DefaultNamespace {
		return a.keep(ctx, namespace, nil)
	}
	if err := a.keep(ctx, schema.DefaultNamespace, nil); err != nil && !apierrors.IsNotFound(err) {
		return err // without that namespace, there is no driver yet
	}
	var of corev1.Secret
	err := a.client.Get(ctx, client.ObjectKey{Namespace: schema.DefaultNamespace, Name: render.AgentKeys}, &of)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the keys of the agents: %w", err)
	}
	return a.keep(ctx, namespace, of.Data)
}

// keep makes the Secret with these keys, or with a new one, unless it is there.
func (a *Applier) keep(ctx context.Context, namespace string, data map[string][]byte) error {
	var is metav1.PartialObjectMetadata
	is.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := a.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: render.AgentKeys}, &is)
	if !apierrors.IsNotFound(err) {
		return err
	}
	if len(data) == 0 {
		key := make([]byte, keyBytes)
		_, _ = rand.Read(key) // it never fails
		data = map[string][]byte{"1": []byte(hex.EncodeToString(key))}
	}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: render.AgentKeys, Labels: map[string]string{"app.kubernetes.io/name": "atoll"}},
		Data:       data,
	}
	if err := a.client.Create(ctx, s, client.FieldOwner(fieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making the keys of the agents, Secret %s/%s: %w", namespace, render.AgentKeys, err)
	}
	return nil
}
