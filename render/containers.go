package render

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/atoll-storage/atoll/schema"
)

// Names of the volumes and of the places where the containers see them.
const (
	volumeVolfiles = "volfiles"
	volumeRun      = "run"
	volumeTmp      = "tmp"
	volumeBrick    = "brick"
	volumeDevices  = "devices"
	volumeState    = "state"
	volumeDisk     = "disk" // a file that is used as a device
	volumeKeys     = "agent-keys"

	volfilesPath = "/etc/atoll"
	runPath      = "/run/gluster" // glusterfs puts its sockets and state dumps there
	tmpPath      = "/tmp"         // it copies a volfile there to read it
	statePath    = "/var/lib/atoll/state"
	diskPath     = "/var/lib/atoll/disk"
	keysPath     = "/etc/atoll-agent-keys"
	healSocket   = runPath + "/heal.sock"
	devices      = "/dev"
)

// hostBricks is the folder of a node below which prepare mounts devices. It is
// not a folder of the pod's: kubelet removes those with all that is in them.
const hostBricks = "/var/lib/atoll/bricks"

// hostState is the folder of a node that remembers which bricks were made on it, so
// that a disk that is missing is not taken for a new one.
const hostState = "/var/lib/atoll/state"

func volumes(b *builder, one brick) []corev1.Volume {
	all := []corev1.Volume{
		{Name: volumeVolfiles, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: b.serviceName() + "-bricks"},
		}}},
		memory(volumeRun), memory(volumeTmp),
	}
	if one.suffix != tiebreakerSuffix {
		optional := true // without keys, sizes are advisory
		all = append(all, corev1.Volume{Name: volumeKeys, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: AgentKeys, Optional: &optional},
		}})
	}
	host := func(name, path string, kind corev1.HostPathType) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}}
	}
	own := fmt.Sprintf("/%s.%s.%s", b.namespace, b.name, one.suffix)
	if one.PVC == "" {
		all = append(all, host(volumeState, hostState+own, corev1.HostPathDirectoryOrCreate))
	}
	switch {
	case one.PVC != "":
		return append(all, corev1.Volume{Name: volumeBrick, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: one.PVC},
		}})
	case one.Device != "":
		all = append(all, host(volumeBrick, hostBricks+own, corev1.HostPathDirectoryOrCreate), host(volumeDevices, devices, corev1.HostPathDirectory))
		if isFile(one.Device) {
			all = append(all, host(volumeDisk, one.Device, corev1.HostPathFile))
		}
		return all
	case one.suffix == tiebreakerSuffix:
		return append(all, host(volumeBrick, one.Path, corev1.HostPathDirectoryOrCreate))
	}
	// Not created: a path that is missing is a disk that is not mounted.
	return append(all, host(volumeBrick, one.Path, corev1.HostPathDirectory))
}

// isFile tells whether a brick's device is a file, which becomes one.
func isFile(device string) bool { return !strings.HasPrefix(device, devices+"/") }

func memory(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}
}

// brickMount is the mount of a brick's place. A device is mounted one level
// below by prepare, and the mount travels to the host and from there to glusterfsd.
func (b *builder) brickMount(one brick, propagation corev1.MountPropagationMode) corev1.VolumeMount {
	if one.Device == "" {
		return corev1.VolumeMount{Name: volumeBrick, MountPath: b.mountpoint()}
	}
	return corev1.VolumeMount{Name: volumeBrick, MountPath: "/bricks/" + b.name, MountPropagation: &propagation}
}

// prepare makes sure that the brick is this pool's and complete, before
// glusterfsd starts.
func (b *builder) prepare(one brick) corev1.Container {
	yes := true
	c := corev1.Container{
		Name: "prepare", Image: b.options.Images.Brick,
		Command: []string{
			"atoll-brick", "prepare", "--pool=" + b.name, "--brick=" + one.suffix,
			"--volume-id=" + b.volume.VolumeID, "--directory=" + b.directory(),
		},
		VolumeMounts: []corev1.VolumeMount{b.brickMount(one, corev1.MountPropagationBidirectional)},
		Resources:    fixed("50m", "32Mi"),
		// Marks are trusted.* attributes, which need CAP_SYS_ADMIN.
		SecurityContext: confined("SYS_ADMIN", "CHOWN", "DAC_OVERRIDE", "FOWNER"),
	}
	if one.Generation > 1 {
		c.Command = append(c.Command, "--generation="+strconv.Itoa(one.Generation))
	}
	if one.PVC == "" {
		c.Command = append(c.Command, "--state="+statePath, "--place="+cmp.Or(one.Device, one.Path))
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volumeState, MountPath: statePath})
	}
	if one.Device != "" {
		device := one.Device
		if isFile(device) {
			device = diskPath
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volumeDisk, MountPath: diskPath})
		}
		c.Command = append(c.Command, "--device="+device)
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volumeDevices, MountPath: devices})
		// Mounting a block device for the host needs all of it.
		c.SecurityContext = &corev1.SecurityContext{Privileged: &yes, ReadOnlyRootFilesystem: &yes}
	}
	return c
}

// volfiles serves the volfiles of the daemons that start after it, and has them take a
// changed one while they run.
func (b *builder) volfiles(one brick) corev1.Container {
	always := corev1.ContainerRestartPolicyAlways
	no := false
	security := confined()
	security.AllowPrivilegeEscalation = &no
	answers := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("volfiles")}}
	c := corev1.Container{
		Name: "volfiles", Image: b.options.Images.Brick, RestartPolicy: &always,
		Command: []string{
			"atoll-brick", "volfiles", fmt.Sprintf("--listen=127.0.0.1:%d", VolfilesPort), fmt.Sprintf("--health=:%d", VolfilesHealthPort),
			"--volfile=" + b.brickVolfileID(one) + "=" + volfilesPath + "/" + keyBrick(one.suffix),
		},
		Ports:           []corev1.ContainerPort{{Name: "volfiles", ContainerPort: VolfilesHealthPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts:    []corev1.VolumeMount{{Name: volumeVolfiles, MountPath: volfilesPath, ReadOnly: true}},
		Resources:       fixed("5m", "16Mi"),
		SecurityContext: security,
		StartupProbe:    &corev1.Probe{ProbeHandler: answers, PeriodSeconds: 1, FailureThreshold: 60},
		LivenessProbe:   &corev1.Probe{ProbeHandler: answers, PeriodSeconds: 20, TimeoutSeconds: 10, FailureThreshold: 3},
	}
	if b.heals(one) {
		c.Command = append(c.Command, "--volfile="+b.healVolfileID()+"="+volfilesPath+"/"+keyHeal)
	}
	return c
}

// heals tells whether a self-heal daemon runs beside a brick.
func (b *builder) heals(one brick) bool {
	_, heals := b.bricksMap[keyHeal]
	return heals && one.suffix != tiebreakerSuffix
}

func (b *builder) brickVolfileID(one brick) string { return b.name + ".brick-" + one.suffix }

func (b *builder) healVolfileID() string { return "shd/" + b.name }

// fromServer are the arguments of a daemon that gets a volfile in its pod.
func fromServer(volfileID string) []string {
	return []string{"-s", "127.0.0.1", "--volfile-server-port=" + strconv.Itoa(VolfilesPort), "--volfile-id", volfileID}
}

// glusterfsd serves the brick.
func (b *builder) glusterfsd(one brick) (corev1.Container, error) {
	demand, err := resources(b.pool.Spec.Resources)
	if err != nil {
		return corev1.Container{}, err
	}
	connect := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("brick")}}
	return corev1.Container{
		Name: "glusterfsd", Image: b.options.Images.Gluster,
		Command: slices.Concat([]string{"glusterfsd", "-N"}, fromServer(b.brickVolfileID(one)), []string{
			"--brick-name", b.directory(), "--process-name", "brick", "-l", "/dev/stdout", "-S", runPath + "/brick-" + one.suffix + ".sock",
		}),
		Ports:        []corev1.ContainerPort{{Name: "brick", ContainerPort: BrickPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: append(daemonMounts(), b.brickMount(one, corev1.MountPropagationHostToContainer)),
		Resources:    demand,
		// trusted.* attributes (SYS_ADMIN) and files of every owner and kind in their
		// users' names (the others). Not SYS_RESOURCE: ext4 lets who has it write
		// beyond a quota.
		SecurityContext: confined("SYS_ADMIN", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "MKNOD", "SETGID", "SETUID"),
		// A journal or many files may have to be read first: five minutes.
		StartupProbe:   &corev1.Probe{ProbeHandler: connect, PeriodSeconds: 2, FailureThreshold: 150},
		ReadinessProbe: &corev1.Probe{ProbeHandler: connect, PeriodSeconds: 5, FailureThreshold: 2},
		// A busy brick is slow to accept; restarting it would make it heal as well.
		LivenessProbe: &corev1.Probe{ProbeHandler: connect, PeriodSeconds: 20, TimeoutSeconds: 10, FailureThreshold: 6},
	}, nil
}

// selfHeal heals the brick beside it: it takes for its own what has its host name. The
// process is not named glustershd: GlusterFS 10 has those wait for graphs that glusterd
// attaches, and never activates one that it fetches.
func (b *builder) selfHeal() corev1.Container {
	no := false
	security := confined()
	security.AllowPrivilegeEscalation = &no
	return corev1.Container{
		Name: "self-heal", Image: b.options.Images.Gluster,
		Command: slices.Concat([]string{"glusterfs", "-N"}, fromServer(b.healVolfileID()), []string{
			"--process-name", "self-heal", "--client-pid=-6", "-l", "/dev/stdout", "-S", healSocket,
		}),
		VolumeMounts: daemonMounts(), Resources: fixed("50m", "64Mi"), SecurityContext: security,
	}
}

// join keeps a new brick from serving until it is known what others have.
func (b *builder) join(one brick) corev1.Container {
	return corev1.Container{
		Name: "join", Image: b.options.Images.Brick,
		Command: []string{
			"atoll-brick", "join", "--pool=" + b.name, "--brick=" + one.suffix, "--directory=" + b.directory(),
			"--volfile=" + volfilesPath + "/" + keyHeal, "--agent-port=" + strconv.Itoa(AgentPort),
		},
		VolumeMounts: []corev1.VolumeMount{
			b.brickMount(one, corev1.MountPropagationHostToContainer), {Name: volumeVolfiles, MountPath: volfilesPath, ReadOnly: true},
		},
		Resources:       fixed("5m", "16Mi"),
		SecurityContext: confined("SYS_ADMIN", "DAC_OVERRIDE", "FOWNER"), // trusted.* attributes
	}
}

// agent holds the brick's volumes to their sizes, and tells how the brick is.
func (b *builder) agent(one brick) corev1.Container {
	answers := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("agent")}}
	}
	always := corev1.ContainerRestartPolicyAlways
	c := corev1.Container{
		Name: "agent", Image: b.options.Images.Brick, RestartPolicy: &always,
		Command: []string{
			"atoll-brick", "agent", "--namespace=" + b.namespace, "--pool=" + b.name, "--brick=" + one.suffix, "--directory=" + b.directory(),
			"--port=" + strconv.Itoa(BrickPort), "--listen=:" + strconv.Itoa(AgentPort), "--keys=" + keysPath,
		},
		Ports: []corev1.ContainerPort{{Name: "agent", ContainerPort: AgentPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: []corev1.VolumeMount{
			b.brickMount(one, corev1.MountPropagationHostToContainer), {Name: volumeKeys, MountPath: keysPath, ReadOnly: true},
		},
		Resources: fixed("20m", "32Mi"),
		// Limits and trusted.* attributes (SYS_ADMIN), of tenants' files too (the others), and
		// entries of the index, whose folders GlusterFS closes to everybody (DAC_OVERRIDE).
		SecurityContext: confined("SYS_ADMIN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER"),
		// It is there before the brick is, for other bricks to ask.
		StartupProbe: &corev1.Probe{ProbeHandler: answers("/healthz"), PeriodSeconds: 1, FailureThreshold: 60},
		// The pod is ready when its brick answers as GlusterFS does.
		ReadinessProbe: &corev1.Probe{ProbeHandler: answers("/readyz"), PeriodSeconds: 5, TimeoutSeconds: 6, FailureThreshold: 2},
		LivenessProbe:  &corev1.Probe{ProbeHandler: answers("/healthz"), PeriodSeconds: 20, TimeoutSeconds: 10, FailureThreshold: 3},
	}
	if b.heals(one) {
		c.Command = append(c.Command, "--heal-volfile="+volfilesPath+"/"+keyHeal, "--heal-socket="+healSocket)
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volumeVolfiles, MountPath: volfilesPath, ReadOnly: true},
			corev1.VolumeMount{Name: volumeRun, MountPath: runPath})
	}
	switch b.pool.Spec.Type {
	case schema.Disperse:
		c.Command = append(c.Command, "--parts="+strconv.Itoa(b.pool.Spec.DataBricks()))
	case schema.Arbiter:
		c.Command = append(c.Command, "--advisory")
	}
	return c
}

func daemonMounts() []corev1.VolumeMount {
	return []corev1.VolumeMount{
		{Name: volumeRun, MountPath: runPath},
		{Name: volumeTmp, MountPath: tmpPath},
	}
}

// confined gives a container the capabilities that it names and no others.
func confined(capabilities ...corev1.Capability) *corev1.SecurityContext {
	yes := true
	return &corev1.SecurityContext{
		ReadOnlyRootFilesystem: &yes,
		Capabilities:           &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: capabilities},
	}
}

func fixed(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}
}

// resources reads the quantities of the document.
func resources(r *schema.Resources) (corev1.ResourceRequirements, error) {
	if r == nil {
		return fixed("100m", "256Mi"), nil
	}
	var out corev1.ResourceRequirements
	for _, part := range []struct {
		from map[string]string
		to   *corev1.ResourceList
		name string
	}{{r.Requests, &out.Requests, "requests"}, {r.Limits, &out.Limits, "limits"}} {
		for name, text := range part.from {
			q, err := resource.ParseQuantity(text)
			if err != nil {
				return out, fmt.Errorf("spec.resources.%s.%s: %q is not a quantity: %w", part.name, name, text, err)
			}
			if *part.to == nil {
				*part.to = corev1.ResourceList{}
			}
			(*part.to)[corev1.ResourceName(name)] = q
		}
	}
	return out, nil
}
