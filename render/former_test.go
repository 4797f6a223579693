package render_test

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
)

// TestRecovery: the driver finds the recovery of a pool in its catalog entry, which can change, and that of
// a class in its parameters.
func TestRecovery(t *testing.T) {
	p := load(t, "../examples/pools/replica3.yaml")[0]
	p.Spec.Recovery = schema.RecoveryTell
	p.Spec.StorageClasses = []schema.StorageClass{{Name: "loud", Recovery: schema.RecoveryEvict}, {Name: "plain"}}
	parameters, entries := map[string]string{}, 0
	for _, o := range objects(t, p) {
		switch o := o.(type) {
		case *storagev1.StorageClass:
			parameters[o.Name] = o.Parameters[schema.ParameterRecovery]
		case *corev1.ConfigMap:
			if text := o.Data[catalog.KeyEntry]; text != "" {
				entries++
				if e, err := catalog.Decode([]byte(text)); err != nil || e.Recovery != schema.RecoveryTell {
					t.Errorf("entry %s, %v", text, err)
				}
			}
		}
	}
	if entries != 1 || parameters["loud"] != "Evict" || parameters["plain"] != "" || parameters["atoll.fast"] != "" {
		t.Errorf("%d entries, classes %v", entries, parameters)
	}
}

// TestFormerSet: prepare is told the set of a brick that another operator may have written.
func TestFormerSet(t *testing.T) {
	const id = "64220cb5-c301-41b1-b4f1-e5756b3171dc"
	confirmed := map[string]string{schema.AnnotationFormerOrder: schema.FormerOrderConfirmed}
	for name, test := range map[string]struct {
		example     string
		id          string
		annotations map[string]string
		want        []string // by brick
	}{
		"of Atoll alone": {"replica3", "", confirmed, []string{"", "", ""}},
		"replicas":       {"replica3", id, nil, []string{"--set=0,1,2", "--set=0,1,2", "--set=0,1,2"}},
		"sets": {
			"distribute", id, nil,
			[]string{"--set=0,1,2", "--set=0,1,2", "--set=0,1,2", "--set=3,4,5", "--set=3,4,5", "--set=3,4,5"},
		},
		"an arbiter": {"arbiter", id, nil, []string{"--set=0,1,2", "--set=0,1,2", "--set=0,1,2 --arbiter"}},
		"confirmed": {
			"disperse", id, confirmed,
			slices.Repeat([]string{"--set=0,1,2,3,4,5 --disperse --order-confirmed"}, 6),
		},
		"one brick":    {"replica1", id, confirmed, []string{""}},
		"a tiebreaker": {"replica2-tiebreaker", id, nil, []string{"--set=0,1", "--set=0,1", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			p := load(t, "../examples/pools/"+test.example+".yaml")[0]
			p.Spec.VolumeID, p.Metadata.Annotations = test.id, test.annotations
			var got []string
			for _, o := range objects(t, p) {
				if s, is := o.(*appsv1.StatefulSet); is {
					got = append(got, formerFlags(s.Spec.Template.Spec.InitContainers[0].Command))
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("flags %q, want %q", got, test.want)
			}
		})
	}
}

// formerFlags are the flags of a command that are about bricks of another operator.
func formerFlags(command []string) string {
	var flags []string
	for _, flag := range command {
		name, _, _ := strings.Cut(flag, "=")
		if slices.Contains([]string{"--set", "--disperse", "--arbiter", "--order-confirmed"}, name) {
			flags = append(flags, flag)
		}
	}
	return strings.Join(flags, " ")
}
