package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// newAdopt makes volumes of data that is on a pool already.
func newAdopt(folder *string) *cobra.Command {
	var size, reclaim string
	cmd := &cobra.Command{
		Use: "adopt POOL VOLUME", Short: "Make a volume of data that is on a pool already", Args: cobra.ExactArgs(2),
		Long: `adopt gives a volume its record, and changes nothing else. In a pool with the layout
Subdirectory the data is in the volume's folder, where the Kadalu operator has it
already; with the layout Single it is the whole pool. The ID that it prints is the
volumeHandle of a PersistentVolume written by hand.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a := backend.Adoption{Name: args[1], Reclaim: schema.Reclaim(reclaim)}
			switch a.Reclaim {
			case schema.ReclaimArchive, schema.ReclaimDelete, schema.ReclaimRetain:
			default:
				return fmt.Errorf("--reclaim %q is not Delete, Archive or Retain", reclaim)
			}
			if size != "" {
				q, err := resource.ParseQuantity(size)
				if err != nil || q.Value() <= 0 {
					return fmt.Errorf("--size %q is not a size such as 10Gi", size)
				}
				a.Size = q.Value()
			}
			return withPool(cmd, *folder, args[0], []schema.Layout{schema.Subdirectory, schema.Single}, func(_ context.Context, l schema.Layout, root *safepath.Dir) error {
				adopt := backend.Subdirectory{Root: root}.Adopt
				if l == schema.Single {
					adopt = backend.Single{Root: root}.Adopt
				}
				v, err := adopt(a)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "driver %s, volumeHandle %s, %d bytes\n", schema.DriverName, volumeid.ID{Pool: args[0], Layout: l, Name: v.Name}, v.Size)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&size, "size", "", "how large the volume is to be, such as 10Gi (default: what the Kadalu operator has noted)")
	cmd.Flags().StringVar(&reclaim, "reclaim", string(schema.ReclaimArchive), "Delete, Archive or Retain: what becomes of the data when the volume is deleted")
	return cmd
}
