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

// keysSeenFor is how long the Secret is assumed to exist after it was seen.
const keysSeenFor = time.Minute

// keyBytes is the number of random bytes of an agent key.
const keyBytes = 32

// ensureKeys makes sure that the agents of a namespace have the keys that the driver signs its
// requests with. They are created once, in the driver's namespace, and copied to others. An
// existing Secret is never changed: rotating keys is left to the administrator.
func (a *Applier) ensureKeys(ctx context.Context, namespace string) error {
	a.mu.Lock()
	seen := time.Since(a.keysSeen[namespace]) < keysSeenFor
	a.mu.Unlock()
	if seen {
		return nil
	}
	if err := a.createKeys(ctx, namespace); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keysSeen == nil {
		a.keysSeen = map[string]time.Time{}
	}
	a.keysSeen[namespace] = time.Now()
	return nil
}

func (a *Applier) createKeys(ctx context.Context, namespace string) error {
	if namespace == schema.DefaultNamespace {
		return a.createSecret(ctx, namespace, nil)
	}
	if err := a.createSecret(ctx, schema.DefaultNamespace, nil); err != nil && !apierrors.IsNotFound(err) {
		return err // no namespace means that the driver is not installed yet
	}
	var source corev1.Secret
	err := a.client.Get(ctx, client.ObjectKey{Namespace: schema.DefaultNamespace, Name: render.AgentKeys}, &source)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read agent keys: %w", err)
	}
	return a.createSecret(ctx, namespace, source.Data)
}

// createSecret creates the Secret with these keys, or with a new one, unless it exists.
func (a *Applier) createSecret(ctx context.Context, namespace string, data map[string][]byte) error {
	var existing metav1.PartialObjectMetadata
	existing.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := a.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: render.AgentKeys}, &existing)
	if !apierrors.IsNotFound(err) {
		return err
	}
	if len(data) == 0 {
		key := make([]byte, keyBytes)
		_, _ = rand.Read(key) // never fails, see crypto/rand
		data = map[string][]byte{"1": []byte(hex.EncodeToString(key))}
	}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: render.AgentKeys,
			Labels: map[string]string{"app.kubernetes.io/name": "atoll"},
		},
		Data: data,
	}
	if err := a.client.Create(ctx, s, client.FieldOwner(fieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create agent keys, Secret %s/%s: %w", namespace, render.AgentKeys, err)
	}
	return nil
}
