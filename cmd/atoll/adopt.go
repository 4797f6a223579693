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

// newAdopt creates volumes from existing data.
func newAdopt(catalogDir *string) *cobra.Command {
	var size, reclaim string
	cmd := &cobra.Command{
		Use: "adopt POOL VOLUME", Args: cobra.ExactArgs(2),
		Short: "Create a volume from data that is already on a pool",
		Long: `adopt writes a volume's record and changes nothing else. In a pool with the layout
Subdirectory, the data is the volume's directory, at the path that the Kadalu operator
uses; with the layout Single, it is the whole pool. Use the printed ID as the
volumeHandle of a PersistentVolume that you write by hand.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a := backend.Adoption{Name: args[1], Reclaim: schema.Reclaim(reclaim)}
			switch a.Reclaim {
			case schema.ReclaimArchive, schema.ReclaimDelete, schema.ReclaimRetain:
			default:
				return fmt.Errorf("invalid --reclaim %q; allowed are Delete, Archive, Retain", reclaim)
			}
			if size != "" {
				q, err := resource.ParseQuantity(size)
				if err != nil || q.Value() <= 0 {
					return fmt.Errorf("invalid --size %q; use a positive quantity such as 10Gi", size)
				}
				a.Size = q.Value()
			}
			return withPool(cmd, *catalogDir, args[0], []schema.Layout{schema.Subdirectory, schema.Single},
				func(_ context.Context, l schema.Layout, root *safepath.Dir) error {
					adopt := backend.Subdirectory{Root: root}.Adopt
					if l == schema.Single {
						adopt = backend.Single{Root: root}.Adopt
					}
					v, err := adopt(a)
					if err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "driver %s, volumeHandle %s, %d bytes\n", schema.DriverName,
						volumeid.ID{Pool: args[0], Layout: l, Name: v.Name}, v.Size)
					return nil
				})
		},
	}
	cmd.Flags().StringVar(&size, "size", "",
		"size of the volume, such as 10Gi (default: the size recorded by the Kadalu operator)")
	cmd.Flags().StringVar(&reclaim, "reclaim", string(schema.ReclaimArchive),
		"Delete, Archive or Retain: what happens to the data when the volume is deleted")
	return cmd
}
