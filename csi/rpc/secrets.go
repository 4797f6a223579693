package rpc

import (
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// withoutSecrets formats a request without the fields that the CSI specification marks as
// secret, and without tokens that a kubelet may put into the volume context.
func withoutSecrets(request any) string {
	m, ok := request.(proto.Message)
	if !ok {
		return ""
	}
	c := proto.Clone(m)
	strip(c.ProtoReflect())
	return fmt.Sprint(c)
}

// tokenKeys are the keys of a volume context that hold tokens (Kubernetes,
// CSIDriver.spec.tokenRequests).
var tokenKeys = []string{"csi.storage.k8s.io/serviceAccount.tokens"}

func strip(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		secret, _ := proto.GetExtension(f.Options(), csi.E_CsiSecret).(bool)
		switch {
		case secret:
			m.Clear(f)
		case f.IsMap() && f.MapKey().Kind() == protoreflect.StringKind:
			for _, key := range tokenKeys {
				if k := protoreflect.ValueOfString(key).MapKey(); v.Map().Has(k) {
					v.Map().Clear(k)
				}
			}
		case f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap():
			strip(v.Message())
		}
		return true
	})
}
