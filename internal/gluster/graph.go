package gluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// graph is a parsed volfile.
type graph struct {
	volumes map[string]*volume
	order   []*volume // in the order of the file
	bricks  []*volume // those of type protocol/client, in the order of the file
	top     *volume
}

type volume struct {
	name, kind string
	options    map[string]string
	subvolumes []string
	problem    string // of a brick: why it is unreachable, "" if it is reachable
}

// maxVolumes bounds the memory that a hostile volfile can use.
const maxVolumes = 20_000

// parseGraph parses a volfile: volume, type, option, subvolumes, end-volume.
func parseGraph(text string) (*graph, error) {
	g := &graph{volumes: map[string]*volume{}}
	var v *volume
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || strings.HasPrefix(f[0], "#"):
		case f[0] == "volume" && len(f) == 2 && v == nil && len(g.volumes) < maxVolumes:
			v = &volume{name: f[1], options: map[string]string{}}
		case v == nil:
			return nil, fmt.Errorf("the volfile has %q outside of a volume", strings.TrimSpace(line))
		case f[0] == "type" && len(f) == 2:
			v.kind = f[1]
		case f[0] == "option" && len(f) >= 3:
			v.options[f[1]] = strings.Join(f[2:], " ")
		case f[0] == "subvolumes":
			v.subvolumes = f[1:]
		case f[0] == "end-volume":
			if g.volumes[v.name] != nil {
				return nil, fmt.Errorf("the volfile defines %s twice", v.name)
			}
			for _, b := range v.subvolumes {
				if g.volumes[b] == nil {
					return nil, fmt.Errorf("the volfile uses %s before it is defined", b)
				}
			}
			g.volumes[v.name] = v
			g.order = append(g.order, v)
			if v.kind == "protocol/client" {
				g.bricks = append(g.bricks, v)
			}
			g.top, v = v, nil
		default:
			return nil, fmt.Errorf("the volfile has %q", strings.TrimSpace(line))
		}
	}
	if g.top == nil || v != nil {
		return nil, fmt.Errorf("the volfile is incomplete")
	}
	return g, nil
}

// siblings are the other subvolumes of the replica or disperse set that a volume is in.
func (g *graph) siblings(name string) []string {
	for _, v := range g.order {
		if (v.kind == "cluster/replicate" || v.kind == "cluster/disperse") && slices.Contains(v.subvolumes, name) {
			return slices.DeleteFunc(slices.Clone(v.subvolumes), func(o string) bool { return o == name })
		}
	}
	return nil
}

// serves reports whether files can be written with the reachable bricks.
func (g *graph) serves() bool {
	serves := map[*volume]bool{}
	for _, v := range g.order { // each is defined before it is used
		serves[v] = g.volumeServes(v, serves)
	}
	return serves[g.top]
}

// volumeServes reports whether one volume serves, from the results of its subvolumes.
func (g *graph) volumeServes(v *volume, serves map[*volume]bool) bool {
	up := 0
	for _, name := range v.subvolumes {
		if serves[g.volumes[name]] {
			up++
		}
	}
	switch v.kind {
	case "protocol/client":
		return v.problem == ""
	case "cluster/replicate":
		data := len(v.subvolumes)
		if v.options["quorum-type"] == "none" {
			return up > 0
		}
		if data == 2 { // the first brick breaks the tie
			return up == 2 || serves[g.volumes[v.subvolumes[0]]]
		}
		return 2*up > data
	case "cluster/disperse":
		redundancy, _ := strconv.Atoi(v.options["redundancy"])
		return up >= len(v.subvolumes)-redundancy
	}
	return up == len(v.subvolumes) // distribution needs every set
}
