package repair

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

const (
	// volumeData is the file that the kubelet writes beside every staging and target path
	// (kubernetes/pkg/volume/csi/csi_plugin.go).
	volumeData      = "vol_data.json"
	volumeDataLimit = 64 << 10 // bytes
)

// volume is what the kubelet noted of a volume's path.
type volume struct {
	id               volumeid.ID
	pod              string // UID; "" for a staging path
	persistentVolume string
}

// readVolume reads the kubelet's file beside a staging or target path.
func readVolume(kubeletRoot, target string) (volume, error) {
	v, err := readVolumeData(kubeletRoot, target)
	if err != nil {
		return v, err
	}
	// Targets are <root>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount.
	below, _ := filepath.Rel(kubeletRoot, target)
	if part := strings.Split(below, "/"); len(part) == 6 && part[0] == "pods" {
		v.pod = part[1]
	}
	return v, nil
}

// readRawVolume reads the kubelet's file of a raw volume that is published at a path: see podOf.
func readRawVolume(kubeletRoot, path string) (volume, error) {
	pod, name := podOfRaw(kubeletRoot, path)
	if pod == "" {
		return volume{}, fmt.Errorf("%s is not the path of a raw volume", path)
	}
	// The kubelet's file is <root>/plugins/kubernetes.io/csi/volumeDevices/<volume>/data/vol_data.json.
	all := filepath.Dir(filepath.Dir(filepath.Dir(path)))
	v, err := readVolumeData(kubeletRoot, filepath.Join(all, name, "data", volumeData))
	v.pod = pod
	return v, err
}

// readVolumeData reads the kubelet's file in the directory of a path.
func readVolumeData(kubeletRoot, target string) (volume, error) {
	at, err := mountpoint.Find(kubeletRoot, target)
	if err != nil || at == nil {
		return volume{}, fmt.Errorf("%s no longer exists: %w", target, err)
	}
	defer at.Close()
	text, err := at.Parent.ReadFile(volumeData, volumeDataLimit)
	if err != nil {
		return volume{}, err
	}
	var data struct{ DriverName, VolumeHandle, SpecVolID string }
	if err := json.Unmarshal(text, &data); err != nil {
		return volume{}, fmt.Errorf("read %s beside %s: %w", volumeData, target, err)
	}
	if data.DriverName != schema.DriverName {
		return volume{}, fmt.Errorf("it belongs to driver %q", data.DriverName)
	}
	v := volume{persistentVolume: data.SpecVolID}
	if v.id, err = volumeid.Parse(data.VolumeHandle); err != nil {
		return volume{}, err
	}
	return v, nil
}

// VolumeAt returns the volume that the kubelet has at a path: it writes that beside the path before
// it stages or publishes the volume.
func VolumeAt(kubeletRoot, path string) (volumeid.ID, error) {
	v, err := readVolume(kubeletRoot, path)
	return v.id, err
}

// podOf returns the pod of a target path and its PersistentVolume. The kubelet has no file
// beside the paths of raw volumes, which are
// <root>/plugins/kubernetes.io/csi/volumeDevices/publish/<volume>/<pod's UID>.
func podOf(kubeletRoot, path string) (pod, persistentVolume string) {
	if v, err := readVolume(kubeletRoot, path); err == nil {
		return v.pod, v.persistentVolume
	}
	return podOfRaw(kubeletRoot, path)
}

// podOfRaw returns the pod and the PersistentVolume of a raw volume's path, "" for other paths.
func podOfRaw(kubeletRoot, path string) (pod, persistentVolume string) {
	below, _ := filepath.Rel(kubeletRoot, path)
	part := strings.Split(below, "/")
	if len(part) == 7 && part[3] == "volumeDevices" && part[4] == "publish" {
		return part[6], part[5]
	}
	return "", ""
}
