package loader

import (
	"fmt"

	"github.com/atoll-storage/atoll/schema"
)

// scope has the documents that end up in one cluster: those of one kustomization, or of
// all plain files.
type scope struct {
	documents []*Document
	classes   []*ClassDocument
	found     []finding
}

func (s *scope) check() []finding {
	s.poolNames()
	s.places()
	s.classNames()
	s.classPools()
	return s.found
}

// poolNames checks that pool names are unique in the cluster: the name is that of the
// Gluster volume and of the StorageClass, and the driver finds the pool by name alone.
func (s *scope) poolNames() {
	first := map[string]*Document{}
	for _, d := range s.documents {
		name := d.Pool.Metadata.Name
		if name == "" {
			continue
		}
		other, known := first[name]
		if !known {
			first[name] = d
			continue
		}
		message := fmt.Sprintf("pool %s is already defined at %s", name, other.Source)
		if namespace := other.Pool.NamespaceOr(""); d.Pool.NamespaceOr("") != namespace {
			message = fmt.Sprintf("pool %s is already defined in namespace %s, at %s", name, namespace, other.Source)
		}
		s.found = append(s.found, d.finding(schema.SeverityError, "metadata.name", "pool-twice", message,
			"a name that no other pool of the cluster has"))
	}
}

// classPools warns of converted classes that ask their pool for a layout that it does not
// serve. Pools of Kadalu serve block volumes without listing them.
func (s *scope) classPools() {
	for _, c := range s.classes {
		if c.Converted == nil {
			continue
		}
		layout := schema.Layout(c.Converted.Parameters[schema.ParameterLayout])
		for _, d := range s.documents {
			if d.Pool.Metadata.Name != c.Converted.Parameters[schema.ParameterPool] || layout == "" ||
				d.Pool.Spec.Serves(layout) {
				continue
			}
			s.found = append(s.found, finding{Diagnostic: schema.Diagnostic{
				Position: c.places.at("parameters"), Severity: schema.SeverityWarning, Code: "class-layout",
				Path: "parameters",
				Message: fmt.Sprintf("the class has layout %s, which pool %s does not serve", layout,
					d.Pool.Metadata.Name),
				Allowed: fmt.Sprintf("convert the pool and add %s to spec.volumes", layout),
			}})
		}
	}
}
