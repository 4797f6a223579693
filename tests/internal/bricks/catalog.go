package bricks

import (
	"slices"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

func (c *Cluster) setSize() int {
	switch c.Pool.Type {
	case schema.Replica1:
		return 1
	case schema.Replica2:
		return 2
	case schema.Disperse:
		return c.Pool.Data + c.Pool.Redundancy
	}
	return 3
}

// Agents sets the ports of the bricks' agents that Catalog writes.
func (c *Cluster) Agents(ports []int) { c.agents = ports }

// Catalog writes the pool's entry, as the renderer would for these bricks, into a catalog
// directory.
func (c *Cluster) Catalog(folder catalog.Folder, layouts ...schema.Layout) {
	c.t.Helper()
	files := map[string]string{}
	for key, build := range map[string]func(volfile.Pool) (*volfile.Xlator,
		error){entry.KeyFiles: volfile.Client, entry.KeyBlocks: volfile.BlockClient} {
		if key == entry.KeyBlocks && !slices.Contains(layouts, schema.Block) {
			continue
		}
		x, err := build(c.Pool)
		if err != nil {
			c.t.Fatal(err)
		}
		if files[key], err = volfile.Print(x); err != nil {
			c.t.Fatal(err)
		}
	}
	e := entry.Entry{
		Pool: c.Pool.Name, Namespace: "atoll-system", Type: c.Pool.Type, Layouts: layouts,
		Reclaim:  schema.ReclaimDelete,
		VolumeID: c.Pool.VolumeID, SetSize: c.setSize(), Data: max(1, c.Pool.Data),
	}
	for i, b := range c.Pool.Bricks {
		brick := entry.Brick{Host: b.Host, Port: b.Port, Directory: b.Directory}
		if c.agents != nil {
			brick.Agent = c.agents[i]
		}
		e.Bricks = append(e.Bricks, brick)
	}
	text, err := entry.Encode(e)
	if err != nil {
		c.t.Fatal(err)
	}
	files[entry.KeyEntry] = string(text)
	if _, err := folder.Write(c.Pool.Name, files); err != nil {
		c.t.Fatal(err)
	}
}
