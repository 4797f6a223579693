package render

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Names of volumes, and the paths at which containers mount them.
const (
	volumeVolfiles = "volfiles"
	volumeRun      = "run"
	volumeTmp      = "tmp"
	volumeBrick    = "brick"
	volumeDevices  = "devices"
	volumeState    = "state"
	volumeDisk     = "disk" // an image file used as a device
	volumeKeys     = "agent-keys"
	volumePrograms = "programs" // the supervisor, which prepare copies there

	volfilesPath = "/etc/atoll"
	runPath      = "/run/gluster" // for glusterfs' sockets and state dumps
	tmpPath      = "/tmp"         // glusterfs copies a volfile there to read it
	statePath    = "/var/lib/atoll/state"
	diskPath     = "/var/lib/atoll/disk"
	keysPath     = "/etc/atoll-agent-keys"
	programsPath = "/run/atoll"
	healSocket   = runPath + "/heal.sock"
	devices      = "/dev"
)

// hostBricks is the directory of a node below which prepare mounts devices. It is outside
// the pod's directory, whose content kubelet deletes with the pod.
const hostBricks = "/var/lib/atoll/bricks"

// hostState is the directory of a node that records which bricks were created there, so that
// a missing disk is not mistaken for a new one.
const hostState = "/var/lib/atoll/state"

func volumes(b *builder, br brick) []corev1.Volume {
	all := []corev1.Volume{
		{Name: volumeVolfiles, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: b.serviceName() + "-bricks"},
		}}},
		memory(volumeRun), memory(volumeTmp),
		// On disk: in memory, the program would count as used by the pod for ever.
		{Name: volumePrograms, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	if br.suffix != tiebreakerSuffix {
		optional := true // without keys, quotas are advisory
		all = append(all, corev1.Volume{Name: volumeKeys, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: AgentKeys, Optional: &optional},
		}})
	}
	host := func(name, path string, kind corev1.HostPathType) corev1.Volume {
		return corev1.Volume{
			Name:         name,
			VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}},
		}
	}
	name := fmt.Sprintf("/%s.%s.%s", b.namespace, b.name, br.suffix)
	// Also for a claim: a local PersistentVolume whose disk is not mounted is an empty directory.
	all = append(all, host(volumeState, hostState+name, corev1.HostPathDirectoryOrCreate))
	switch {
	case br.PVC != "":
		return append(all, corev1.Volume{Name: volumeBrick, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: br.PVC},
		}})
	case br.Device != "":
		all = append(all, host(volumeBrick, hostBricks+name, corev1.HostPathDirectoryOrCreate),
			host(volumeDevices, devices, corev1.HostPathDirectory))
		if isFile(br.Device) {
			all = append(all, host(volumeDisk, br.Device, corev1.HostPathFile))
		}
		return all
	case br.suffix == tiebreakerSuffix:
		return append(all, host(volumeBrick, br.Path, corev1.HostPathDirectoryOrCreate))
	}
	// The type must not be DirectoryOrCreate: creating the path could hide an unmounted disk.
	return append(all, host(volumeBrick, br.Path, corev1.HostPathDirectory))
}

// isFile reports whether a brick's device is an image file, for which prepare sets up a loop
// device.
func isFile(device string) bool { return !strings.HasPrefix(device, devices+"/") }

func memory(name string) corev1.Volume {
	return corev1.Volume{
		Name:         name,
		VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}},
	}
}

// brickMount returns the mount of a brick's volume. prepare mounts a device one level below
// it; that mount propagates to the host and from there to glusterfsd.
func (b *builder) brickMount(br brick, propagation corev1.MountPropagationMode) corev1.VolumeMount {
	if br.Device == "" {
		return corev1.VolumeMount{Name: volumeBrick, MountPath: b.mountpoint()}
	}
	return corev1.VolumeMount{Name: volumeBrick, MountPath: "/bricks/" + b.name, MountPropagation: &propagation}
}

func daemonMounts() []corev1.VolumeMount {
	return []corev1.VolumeMount{
		{Name: volumeRun, MountPath: runPath},
		{Name: volumeTmp, MountPath: tmpPath},
	}
}

// supervisedMounts are the mounts of a daemon that is started again when it crashes.
func supervisedMounts() []corev1.VolumeMount {
	return append(daemonMounts(), corev1.VolumeMount{Name: volumePrograms, MountPath: programsPath, ReadOnly: true})
}
