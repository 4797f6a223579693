package render

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
)

// Keys of the ConfigMap that brick pods mount; a brick's is brick-<index>.vol.
const (
	keyHeal       = "heal.vol"
	keyRebalance  = "rebalance.vol"
	keyTiebreaker = "tiebreaker.vol"
)

func keyBrick(suffix string) string {
	if suffix == tiebreakerSuffix {
		return keyTiebreaker
	}
	return "brick-" + suffix + ".vol"
}

// configMaps adds a ConfigMap with the volfiles of the bricks, and the catalog entry with
// the volfiles of the clients.
func (b *builder) configMaps() error {
	if b.native() {
		data, err := b.brickVolfiles()
		if err != nil {
			return err
		}
		b.bricksMap = data
		if err := b.configMap(b.serviceName()+"-bricks", data); err != nil {
			return err
		}
	}
	data, err := b.catalog()
	if err != nil {
		return err
	}
	return b.configMap(b.serviceName()+"-catalog", data, catalog.Label, catalog.LabelValue)
}

func (b *builder) configMap(name string, data map[string]string, labels ...string) error {
	size := 0
	for key, text := range data {
		size += len(key) + len(text)
	}
	if size > maxConfigMap {
		return fmt.Errorf("ConfigMap %s would have %d bytes, above the limit of %d; split the pool", name, size,
			maxConfigMap)
	}
	b.add(&corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: b.kept(name, labels...), Data: data,
	})
	return nil
}

// brickVolfiles returns the volfiles of the processes in brick pods.
func (b *builder) brickVolfiles() (map[string]string, error) {
	data := map[string]string{}
	put := func(key string, x *volfile.Xlator, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		data[key], err = volfile.Print(x)
		return err
	}
	for i := range b.volume.Bricks {
		x, err := volfile.Brick(b.volume, i)
		if err := put(keyBrick(fmt.Sprint(i)), x, err); err != nil {
			return nil, err
		}
	}
	if b.volume.Tiebreaker != nil {
		x, err := volfile.Tiebreaker(b.volume)
		if err := put(keyTiebreaker, x, err); err != nil {
			return nil, err
		}
	}
	if x, err := volfile.Heal(b.volume); !errors.Is(err, volfile.ErrNoHeal) {
		if err := put(keyHeal, x, err); err != nil {
			return nil, err
		}
	}
	if x, err := volfile.Rebalance(b.volume); !errors.Is(err, volfile.ErrOneSet) {
		if err := put(keyRebalance, x, err); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// catalog returns the catalog entry and the volfiles of the clients.
func (b *builder) catalog() (map[string]string, error) {
	s := &b.pool.Spec
	e := catalog.Entry{
		Pool: b.name, Namespace: b.namespace, Labels: b.pool.Metadata.Labels, Type: s.Type,
		Layouts: s.Layouts(), Reclaim: reclaim(s), External: s.External,
		Recovery: s.Recovery,
	}
	data := map[string]string{}
	if b.native() {
		e.VolumeID, e.SetSize, e.Data = b.volume.VolumeID, s.SetSize(), s.DataBricks()
		for i, brick := range s.Bricks {
			at := b.volume.Bricks[i]
			e.Bricks = append(e.Bricks, catalog.Brick{
				Host: at.Host, Port: at.Port, Directory: at.Directory,
				Node: brick.Node, Claim: brick.PVC, Decommissioned: brick.Decommissioned, Agent: AgentPort,
			})
		}
		if err := b.clientVolfiles(data); err != nil {
			return nil, err
		}
	}
	text, err := catalog.Encode(e)
	data[catalog.KeyEntry] = string(text)
	return data, err
}

func (b *builder) clientVolfiles(data map[string]string) error {
	for key, build := range map[string]func(volfile.Pool) (*volfile.Xlator, error){
		catalog.KeyFiles: volfile.Client, catalog.KeyBlocks: volfile.BlockClient,
	} {
		if key == catalog.KeyBlocks && !b.pool.Spec.Serves(schema.Block) {
			continue
		}
		x, err := build(b.volume)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if data[key], err = volfile.Print(x); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func reclaim(s *schema.Spec) schema.Reclaim {
	if s.Reclaim == "" {
		return schema.ReclaimDelete
	}
	return s.Reclaim
}
