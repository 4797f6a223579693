package schema

// DriverName is the CSI driver's name and so the provisioner of its classes.
const DriverName = "csi.atoll.storage"

// Parameters of a StorageClass that tell the driver where its volumes go.
const (
	ParameterPool         = "pool"         // names of pools, separated by commas
	ParameterPoolSelector = "poolSelector" // labels of pools, and type=…
	ParameterLayout       = "layout"       // Subdirectory, Block or Single
	ParameterRecovery     = "recovery"     // Evict or Tell; "" is the pool's
	ParameterReclaim      = "reclaim"      // Delete, Archive or Retain; Kubernetes has no word for Archive
)

// AnnotationDefaultClass makes a class the cluster's default.
const AnnotationDefaultClass = "storageclass.kubernetes.io/is-default-class"

// AnnotationConverted marks a pool that was converted from another kind of document;
// its value is that kind. Rendering adds the class names that the kind's users know.
const AnnotationConverted = "atoll.storage/converted-from"

// AnnotationFormerOrder, with the value FormerOrderConfirmed, is on a pool whose bricks another
// operator wrote: the document lists them in the order that they had there. Nothing on such a
// brick says its position, so a brick that seems to have had another is refused without it.
const (
	AnnotationFormerOrder = "atoll.storage/former-order"
	FormerOrderConfirmed  = "confirmed"
)

// ConvertedClass is a storage.k8s.io/v1 StorageClass, converted from the class of a
// provisioner that Atoll replaces.
type ConvertedClass struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`

	Provisioner          string            `json:"provisioner"`
	Parameters           map[string]string `json:"parameters,omitempty"`
	ReclaimPolicy        string            `json:"reclaimPolicy,omitempty"`
	VolumeBindingMode    string            `json:"volumeBindingMode,omitempty"`
	AllowVolumeExpansion bool              `json:"allowVolumeExpansion"`
	MountOptions         []string          `json:"mountOptions,omitempty"`
}

// BuiltinClasses returns the names of the classes that every pool has without listing
// any: atoll.<pool> for files, atoll.<pool>.block for block volumes, and for a pool
// converted from KadaluStorage also the name that its users know.
func BuiltinClasses(p *Pool) []string {
	name := p.Metadata.Name
	if name == "" {
		return nil
	}
	var names []string
	if p.Spec.Serves(Subdirectory) || p.Spec.Serves(Single) {
		names = append(names, "atoll."+name)
	}
	if p.Spec.Serves(Block) {
		names = append(names, "atoll."+name+".block")
	}
	if p.Metadata.Annotations[AnnotationConverted] == KadaluKind {
		former := "kadalu." + name
		if p.Spec.Type == External {
			former = "kadalu.external." + name
		}
		names = append(names, former)
	}
	return names
}
