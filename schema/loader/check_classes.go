package loader

import (
	"fmt"

	"github.com/atoll-storage/atoll/schema"
)

// classNames checks that StorageClass names are unique in the cluster and that at most one
// class is the default.
func (s *scope) classNames() {
	n := classNames{origin: map[string]string{}}
	seen := map[string]bool{}
	for _, d := range s.documents {
		pool := d.Pool.Metadata.Name
		if seen[pool] {
			continue // already reported by poolNames
		}
		seen[pool] = true
		for _, name := range schema.BuiltinClasses(d.Pool) {
			n.add(name, fmt.Sprintf("pool %s creates it by default", pool), false, s.reporter(d, "metadata.name"))
		}
	}
	for _, d := range s.documents {
		for i, class := range d.Pool.Spec.StorageClasses {
			path := fmt.Sprintf("spec.storageClasses[%d].name", i)
			n.add(class.Name, fmt.Sprintf("pool %s lists it (%s)", d.Pool.Metadata.Name, d.Position(path)),
				class.Default,
				s.reporter(d, path))
		}
	}
	for _, c := range s.classes {
		n.add(c.Name, fmt.Sprintf("it is defined at %s", c.Source), c.Default,
			func(severity schema.Severity, code, message, allowed string) {
				s.found = append(s.found, finding{Diagnostic: schema.Diagnostic{
					Position: c.places.at("metadata.name"), Severity: severity, Code: code,
					Path: "metadata.name", Message: message, Allowed: allowed,
				}})
			})
	}
}

// reporter returns a function that reports findings at a path of a document.
func (s *scope) reporter(d *Document, path string) report {
	return func(severity schema.Severity, code, message, allowed string) {
		s.found = append(s.found, d.finding(severity, path, code, message, allowed))
	}
}

type report func(severity schema.Severity, code, message, allowed string)

// classNames collects the StorageClasses of a cluster.
type classNames struct {
	origin   map[string]string // where each class comes from, by its name
	standard string            // name of the default class
}

func (n *classNames) add(name, origin string, isDefault bool, report report) {
	if name == "" {
		return
	}
	if other, known := n.origin[name]; known {
		report(schema.SeverityError, "class-twice", fmt.Sprintf("StorageClass %s already exists: %s", name, other),
			"a name that no other class of the cluster has")
	} else {
		n.origin[name] = origin
	}
	if !isDefault {
		return
	}
	if n.standard != "" {
		report(schema.SeverityWarning, "class-default",
			fmt.Sprintf("StorageClass %s is already the default; of two, Kubernetes uses the newer", n.standard),
			"one default class")
	}
	n.standard = name
}
