package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
)

func newVolumes() *cobra.Command {
	var catalogDir string
	cmd := &cobra.Command{
		Use:   "volumes",
		Short: "List the volumes of a pool; archive, restore or purge deleted volumes; adopt data",
		Long: `volumes mounts a pool and works on the volumes in it. It needs root, reachable bricks
and the driver's catalog: a directory with a subdirectory for each pool.`,
	}
	cmd.PersistentFlags().StringVar(&catalogDir, "catalog", "/etc/atoll/catalog",
		"directory with a subdirectory for each pool")
	var output string
	list := &cobra.Command{
		Use: "list POOL", Short: "List the volumes, snapshots and archived volumes of a pool", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return listPool(cmd, catalogDir, args[0], output)
		},
	}
	list.Flags().StringVarP(&output, "output", "o", "table", "table|json|yaml")
	do := func(
		use, short string,
		work func(ctx context.Context, layout schema.Layout, root *safepath.Dir, name string) (string, error),
	) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				return withEachLayout(cmd, catalogDir, args[0],
					func(ctx context.Context, layout schema.Layout, root *safepath.Dir) error {
						done, err := work(ctx, layout, root, args[1])
						if err == nil {
							fmt.Fprintln(cmd.OutOrStdout(), done)
						}
						return err
					})
			},
		}
	}
	cmd.AddCommand(list, newAdopt(&catalogDir),
		do("archive POOL VOLUME", "Archive a volume's data when its claim is deleted", archiveVolume),
		do("restore POOL PLACE", "Restore a deleted volume from the archive", restoreVolume),
		do("purge POOL PLACE", "Permanently delete a volume from the archive", purgeVolume))
	return cmd
}

// commandTimeout bounds the work of one command on a pool.
const commandTimeout = time.Hour

// withEachLayout calls work for one layout of a pool after the other, until one has the volume.
func withEachLayout(cmd *cobra.Command, catalogDir, name string,
	work func(context.Context, schema.Layout, *safepath.Dir) error,
) error {
	p, err := catalog.Folder{Dir: catalogDir}.Pool(name)
	if err != nil {
		return err
	}
	err = fmt.Errorf("pool %s has volumes of layout %v; this command needs %s or %s", name, p.Layouts,
		schema.Subdirectory, schema.Block)
	for _, layout := range p.Layouts {
		if layout == schema.Single {
			continue
		}
		if err = withPool(cmd, catalogDir, name, []schema.Layout{layout}, work); !errors.Is(err, backend.ErrNotFound) {
			return err
		}
	}
	return err
}

// withPool mounts a pool, with the first of these layouts that it has, while work runs.
func withPool(cmd *cobra.Command, catalogDir, name string, layouts []schema.Layout,
	work func(context.Context, schema.Layout, *safepath.Dir) error,
) (err error) {
	if os.Getuid() != 0 {
		return errors.New("mounting a pool needs root")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
	defer cancel()
	p, err := catalog.Folder{Dir: catalogDir}.Pool(name)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(layouts, func(l schema.Layout) bool { return slices.Contains(p.Layouts, l) })
	if i < 0 {
		return fmt.Errorf("pool %s has volumes of layout %v; this command needs one of %v", name, p.Layouts, layouts)
	}
	dir, err := os.MkdirTemp("", "atoll-volumes-")
	if err != nil {
		return err
	}
	clients, err := mounts.NewUncached(dir, logr.Discard())
	if err != nil {
		return err
	}
	defer func() {
		clients.Close()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	path, err := clients.Root(ctx, p, layouts[i])
	if err != nil {
		return err
	}
	root, err := safepath.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	return work(ctx, layouts[i], root)
}

// volumeList is the output of list.
type volumeList struct {
	Volumes   []volumeLine       `json:"volumes"`
	Snapshots []snapshotLine     `json:"snapshots"`
	Archived  []backend.Archived `json:"archived"`
}

// snapshotLine is a snapshot of a block volume.
type snapshotLine struct {
	Name    string    `json:"name"`
	Request string    `json:"request"` // the name in the CSI request, from its VolumeSnapshotContent
	Volume  string    `json:"volume"`
	Size    int64     `json:"sizeBytes"`
	Used    int64     `json:"usedBytes"` // allocated when the snapshot was created
	Created time.Time `json:"created"`
}

type volumeLine struct {
	Name    string         `json:"name"`
	Layout  schema.Layout  `json:"layout"`
	Size    int64          `json:"sizeBytes"`
	Reclaim schema.Reclaim `json:"reclaim"`
	Created time.Time      `json:"created"`
	// Source is the snapshot/NAME or volume/NAME that the volume was copied from.
	Source string `json:"source,omitempty"`
	// For block volumes: the node that it is attached to, since when, and how often it was attached;
	// its file system, and whether it has been formatted. Nodes lists the nodes that a shared volume
	// is attached to.
	Node       string    `json:"node,omitempty"`
	Shared     bool      `json:"shared,omitempty"`
	Nodes      []string  `json:"nodes,omitempty"`
	Since      time.Time `json:"since,omitzero"`
	Epoch      int64     `json:"epoch,omitempty"`
	FileSystem string    `json:"fileSystem,omitempty"`
	Formatted  bool      `json:"formatted,omitempty"`
}

// listPool lists the volumes of all layouts of a pool.
func listPool(cmd *cobra.Command, catalogDir, name, output string) error {
	p, err := catalog.Folder{Dir: catalogDir}.Pool(name)
	if err != nil {
		return err
	}
	all := volumeList{Volumes: []volumeLine{}, Snapshots: []snapshotLine{}}
	for _, layout := range p.Layouts {
		work := func(ctx context.Context, _ schema.Layout, root *safepath.Dir) error {
			return all.addSubdirectories(ctx, root)
		}
		if layout == schema.Block {
			work = func(ctx context.Context, _ schema.Layout, root *safepath.Dir) error {
				return all.addBlocks(ctx, root)
			}
		} else if layout == schema.Single {
			continue
		}
		if err := withPool(cmd, catalogDir, name, []schema.Layout{layout}, work); err != nil {
			return err
		}
	}
	slices.SortFunc(all.Snapshots, func(a, b snapshotLine) int { return a.Created.Compare(b.Created) })
	slices.SortFunc(all.Volumes, func(a, b volumeLine) int { return a.Created.Compare(b.Created) })
	return printVolumes(cmd, all, output)
}

func (l *volumeList) addSubdirectories(ctx context.Context, root *safepath.Dir) error {
	volumes, err := backend.Subdirectory{Root: root}.List(ctx)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		l.Volumes = append(l.Volumes,
			volumeLine{Name: v.Name, Layout: schema.Subdirectory, Size: v.Size, Reclaim: v.Reclaim, Created: v.Created})
	}
	return l.addArchived(ctx, root, schema.Subdirectory)
}

func (l *volumeList) addArchived(ctx context.Context, root *safepath.Dir, layout schema.Layout) error {
	kept, err := backend.ListArchived(ctx, root, layout)
	l.Archived = append(l.Archived, kept...)
	return err
}

func (l *volumeList) addBlocks(ctx context.Context, root *safepath.Dir) error {
	b := backend.Block{Root: root}
	volumes, err := b.List(ctx)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		a, err := b.Attachment(v.Name)
		if err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
		holders, err := b.Holders(v.Name)
		if err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
		l.Volumes = append(l.Volumes, volumeLine{
			Name: v.Name, Layout: schema.Block, Size: v.Size, Reclaim: v.Reclaim, Created: v.Created, Source: v.Source,
			Node: a.Node, Shared: v.Shared, Nodes: holders.Nodes(), Since: a.Since, Epoch: a.Epoch,
			FileSystem: v.FileSystem, Formatted: a.Formatted != "",
		})
	}
	snapshots, err := b.Snapshots(ctx)
	if err != nil {
		return err
	}
	for _, s := range snapshots {
		l.Snapshots = append(l.Snapshots, snapshotLine{s.Name, s.Request, s.Volume, s.Size, s.Used, s.Created})
	}
	return l.addArchived(ctx, root, schema.Block)
}

func printVolumes(cmd *cobra.Command, all volumeList, output string) error {
	if output != "table" {
		return printValue(cmd, output, all, func() {})
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VOLUME\tLAYOUT\tBYTES\tON DELETION\tCREATED\tNODE")
	for _, v := range all.Volumes {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", v.Name, v.Layout, v.Size, v.Reclaim, v.Created.Format(time.RFC3339),
			strings.Join(append(v.Nodes, v.Node), " "))
	}
	for _, s := range all.Snapshots {
		fmt.Fprintf(w, "%s\tsnapshot of %s\t%d\t\t%s\t\n", s.Name, s.Volume, s.Used, s.Created.Format(time.RFC3339))
	}
	for _, a := range all.Archived {
		fmt.Fprintf(w, "%s\t\t%d\tarchived\t\t\n", a.Place, a.Size)
	}
	return w.Flush()
}

// archives is a layout with an archive of deleted volumes.
type archives interface {
	SetReclaim(ctx context.Context, name string, after schema.Reclaim) (backend.Volume, error)
	Restore(place string) (backend.Volume, error)
}

func archivesOf(layout schema.Layout, root *safepath.Dir) archives {
	if layout == schema.Block {
		return backend.Block{Root: root}
	}
	return backend.Subdirectory{Root: root}
}

func archiveVolume(ctx context.Context, layout schema.Layout, root *safepath.Dir, name string) (string, error) {
	v, err := archivesOf(layout, root).SetReclaim(ctx, name, schema.ReclaimArchive)
	return fmt.Sprintf("volume %s will be archived when its claim is deleted", v.Name), err
}

func restoreVolume(_ context.Context, layout schema.Layout, root *safepath.Dir, place string) (string, error) {
	v, err := archivesOf(layout, root).Restore(place)
	text := "restored volume %s with %d bytes; restart the CSI controller to account for it"
	return fmt.Sprintf(text, v.Name, v.Size), err
}

func purgeVolume(ctx context.Context, layout schema.Layout, root *safepath.Dir, place string) (string, error) {
	if err := backend.Purge(root, layout, place); err != nil {
		return "", err
	}
	log := logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil))
	return fmt.Sprintf("purged %s", place), backend.Sweep(ctx, root, layout, log)
}
