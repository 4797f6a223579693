package convert

import "strings"

// KadaluPath maps a path of a converted pool to the path of the KadaluStorage document.
func KadaluPath(path string) string {
	for _, c := range [][2]string{
		{"spec.bricks", "spec.storage"},
		{"spec.external", "spec.details"},
		{"spec.reclaim", "spec.pvReclaimPolicy"},
		{"spec.volumeID", "spec.volume_id"},
		{"spec.volumes", "spec.single_pv_per_pool"},
	} {
		if rest, found := strings.CutPrefix(path, c[0]); found && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			switch c[1] {
			case "spec.storage":
				return c[1] + rest
			case "spec.details":
				for from, to := range map[string]string{
					".hosts": ".gluster_hosts", ".volume": ".gluster_volname",
					".options": ".gluster_options", ".port": ".gluster_port",
				} {
					if tail, found := strings.CutPrefix(rest, from); found {
						return c[1] + to + tail
					}
				}
			}
			return c[1]
		}
	}
	return path
}
