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

// prepare returns the container that checks, before glusterfsd starts, that the brick belongs
// to this pool and is complete.
func (b *builder) prepare(br brick) corev1.Container {
	yes := true
	c := corev1.Container{
		Name: "prepare", Image: b.options.Images.Brick,
		Command: []string{
			"atoll-brick", "prepare", "--pool=" + b.name, "--brick=" + br.suffix,
			"--volume-id=" + b.volume.VolumeID, "--directory=" + b.directory(),
		},
		VolumeMounts: []corev1.VolumeMount{b.brickMount(br, corev1.MountPropagationBidirectional)},
		Resources:    requests("50m", "32Mi"),
		// It stores the brick's identity in trusted.* attributes, which need CAP_SYS_ADMIN.
		SecurityContext: confined("SYS_ADMIN", "CHOWN", "DAC_OVERRIDE", "FOWNER"),
	}
	if br.Generation > 1 {
		c.Command = append(c.Command, "--generation="+strconv.Itoa(br.Generation))
	}
	c.Command = append(c.Command, "--state="+statePath, "--place="+cmp.Or(br.Device, br.Path, br.PVC),
		"--install="+programsPath)
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volumeState, MountPath: statePath},
		corev1.VolumeMount{Name: volumePrograms, MountPath: programsPath})
	c.Command = append(c.Command, b.formerSet(br)...)
	if br.Device != "" {
		device := br.Device
		if isFile(device) {
			device = diskPath
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volumeDisk, MountPath: diskPath})
		}
		c.Command = append(c.Command, "--device="+device)
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volumeDevices, MountPath: devices})
		// Mounting a block device on the host needs a privileged container.
		c.SecurityContext = &corev1.SecurityContext{Privileged: &yes, ReadOnlyRootFilesystem: &yes}
	}
	return c
}

// formerSet returns the flags of prepare that describe the set of a brick that another operator
// may have written: only a document that names a volume ID can be of one.
func (b *builder) formerSet(br brick) (flags []string) {
	index, err := strconv.Atoi(br.suffix)
	size := b.pool.Spec.SetSize()
	if b.pool.Spec.VolumeID == "" || err != nil || size < 2 {
		return nil // the tiebreaker has no data
	}
	var positions []string
	for first := index - index%size; len(positions) < size; {
		positions = append(positions, strconv.Itoa(first+len(positions)))
	}
	flags = append(flags, "--set="+strings.Join(positions, ","))
	switch b.pool.Spec.Type {
	case schema.Disperse:
		flags = append(flags, "--disperse")
	case schema.Arbiter:
		if index%size == size-1 {
			flags = append(flags, "--arbiter")
		}
	}
	if b.pool.Metadata.Annotations[schema.AnnotationFormerOrder] == schema.FormerOrderConfirmed {
		flags = append(flags, "--order-confirmed")
	}
	return flags
}

// volfiles returns the container that serves volfiles to the daemons of the pod. Running
// daemons load a changed volfile from it.
func (b *builder) volfiles(br brick) corev1.Container {
	always := corev1.ContainerRestartPolicyAlways
	no := false
	security := confined()
	security.AllowPrivilegeEscalation = &no
	healthy := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/healthz",
		Port: intstr.FromString("volfiles"),
	}}
	c := corev1.Container{
		Name: "volfiles", Image: b.options.Images.Brick, RestartPolicy: &always,
		Command: []string{
			"atoll-brick", "volfiles", fmt.Sprintf("--listen=127.0.0.1:%d", VolfilesPort),
			fmt.Sprintf("--health=:%d", VolfilesHealthPort),
			"--volfile=" + b.brickVolfileID(br) + "=" + volfilesPath + "/" + keyBrick(br.suffix),
		},
		Ports: []corev1.ContainerPort{{
			Name: "volfiles", ContainerPort: VolfilesHealthPort, Protocol: corev1.ProtocolTCP,
		}},
		VolumeMounts:    []corev1.VolumeMount{{Name: volumeVolfiles, MountPath: volfilesPath, ReadOnly: true}},
		Resources:       requests("5m", "16Mi"),
		SecurityContext: security,
		StartupProbe:    &corev1.Probe{ProbeHandler: healthy, PeriodSeconds: 1, FailureThreshold: 60},
		LivenessProbe: &corev1.Probe{
			ProbeHandler: healthy, PeriodSeconds: 20, TimeoutSeconds: 10,
			FailureThreshold: 3,
		},
	}
	if b.heals(br) {
		c.Command = append(c.Command, "--volfile="+b.healVolfileID()+"="+volfilesPath+"/"+keyHeal,
			"--agent=127.0.0.1:"+strconv.Itoa(AgentPort))
	}
	return c
}

// heals reports whether a self-heal daemon runs beside a brick.
func (b *builder) heals(br brick) bool {
	_, heals := b.bricksMap[keyHeal]
	return heals && br.suffix != tiebreakerSuffix
}

func (b *builder) brickVolfileID(br brick) string { return b.name + ".brick-" + br.suffix }

func (b *builder) healVolfileID() string { return "shd/" + b.name }

// fromServer returns the arguments for a daemon that loads its volfile from the server in
// its pod.
func fromServer(volfileID string) []string {
	return []string{"-s", "127.0.0.1", "--volfile-server-port=" + strconv.Itoa(VolfilesPort), "--volfile-id", volfileID}
}

// supervised returns the command of a container whose daemon is started again when it crashes.
func supervised(name string, command ...[]string) []string {
	return append([]string{programsPath + "/atoll-brick", "supervise", "--name=" + name, "--records=" + runPath, "--"},
		slices.Concat(command...)...)
}

// glusterfsd returns the container that serves the brick.
func (b *builder) glusterfsd(br brick) (corev1.Container, error) {
	demand, err := resources(b.pool.Spec.Resources)
	if err != nil {
		return corev1.Container{}, err
	}
	connect := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("brick")}}
	return corev1.Container{
		Name: "glusterfsd", Image: b.options.Images.Gluster,
		Command: supervised("glusterfsd", []string{"glusterfsd", "-N"}, fromServer(b.brickVolfileID(br)), []string{
			"--brick-name", b.directory(), "--process-name", "brick", "-l", "/dev/stdout", "-S",
			runPath + "/brick-" + br.suffix + ".sock",
		}),
		Ports:        []corev1.ContainerPort{{Name: "brick", ContainerPort: BrickPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: append(supervisedMounts(), b.brickMount(br, corev1.MountPropagationHostToContainer)),
		Resources:    demand,
		// SYS_ADMIN is for trusted.* attributes, the others to create files of any type and
		// owner on behalf of users. SYS_RESOURCE is missing on purpose: with it, ext4 ignores
		// quotas.
		SecurityContext: confined("SYS_ADMIN", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "MKNOD",
			"SETGID", "SETUID"),
		// Five minutes: it may have to replay a journal or read many files first.
		StartupProbe:   &corev1.Probe{ProbeHandler: connect, PeriodSeconds: 2, FailureThreshold: 150},
		ReadinessProbe: &corev1.Probe{ProbeHandler: connect, PeriodSeconds: 5, FailureThreshold: 2},
		// Be lenient: a busy brick accepts slowly, and a restart would add a heal to its load.
		LivenessProbe: &corev1.Probe{ProbeHandler: connect, PeriodSeconds: 20, TimeoutSeconds: 10, FailureThreshold: 6},
	}, nil
}

// selfHeal returns the container of the self-heal daemon, which heals the bricks that have
// the host name of its pod. The process must not be named glustershd: in GlusterFS 10 that
// process waits for glusterd to attach graphs and never activates a graph that it fetched.
func (b *builder) selfHeal() corev1.Container {
	no := false
	security := confined()
	security.AllowPrivilegeEscalation = &no
	return corev1.Container{
		Name: "self-heal", Image: b.options.Images.Gluster,
		Command: supervised("self-heal", []string{"glusterfs", "-N"}, fromServer(b.healVolfileID()), []string{
			"--process-name", "self-heal", "--client-pid=-6", "-l", "/dev/stdout", "-S", healSocket,
		}),
		VolumeMounts: supervisedMounts(), Resources: requests("50m", "64Mi"), SecurityContext: security,
	}
}

// join returns the container that keeps an empty brick from serving until it is known
// whether it must be healed from the other bricks of its set.
func (b *builder) join(br brick) corev1.Container {
	return corev1.Container{
		Name: "join", Image: b.options.Images.Brick,
		Command: []string{
			"atoll-brick", "join", "--pool=" + b.name, "--brick=" + br.suffix, "--directory=" + b.directory(),
			"--volfile=" + volfilesPath + "/" + keyHeal, "--agent-port=" + strconv.Itoa(AgentPort),
		},
		VolumeMounts: []corev1.VolumeMount{
			b.brickMount(br, corev1.MountPropagationHostToContainer),
			{Name: volumeVolfiles, MountPath: volfilesPath, ReadOnly: true},
		},
		Resources:       requests("5m", "16Mi"),
		SecurityContext: confined("SYS_ADMIN", "DAC_OVERRIDE", "FOWNER"), // trusted.* attributes
	}
}

// agent returns the container that enforces quotas and serves the brick's health and metrics.
func (b *builder) agent(br brick) corev1.Container {
	get := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("agent")}}
	}
	always := corev1.ContainerRestartPolicyAlways
	c := corev1.Container{
		Name: "agent", Image: b.options.Images.Brick, RestartPolicy: &always,
		Command: []string{
			"atoll-brick", "agent", "--namespace=" + b.namespace, "--pool=" + b.name, "--brick=" + br.suffix,
			"--directory=" + b.directory(),
			"--port=" + strconv.Itoa(BrickPort), "--listen=:" + strconv.Itoa(AgentPort), "--keys=" + keysPath,
			"--records=" + runPath,
		},
		Ports: []corev1.ContainerPort{{Name: "agent", ContainerPort: AgentPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: []corev1.VolumeMount{
			b.brickMount(br, corev1.MountPropagationHostToContainer),
			{Name: volumeKeys, MountPath: keysPath, ReadOnly: true},
			{Name: volumeRun, MountPath: runPath},
		},
		Resources: requests("20m", "32Mi"),
		// SYS_ADMIN is for quotas and trusted.* attributes, the others for files of tenants.
		// DAC_OVERRIDE is also for the index, whose directories GlusterFS makes inaccessible.
		SecurityContext: confined("SYS_ADMIN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER"),
		// It starts before the brick, because other bricks ask it.
		StartupProbe: &corev1.Probe{ProbeHandler: get("/healthz"), PeriodSeconds: 1, FailureThreshold: 60},
		// The pod is ready when its brick responds to GlusterFS requests.
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: get("/readyz"), PeriodSeconds: 5, TimeoutSeconds: 6, FailureThreshold: 2,
		},
		LivenessProbe: &corev1.Probe{
			ProbeHandler: get("/healthz"), PeriodSeconds: 20, TimeoutSeconds: 10, FailureThreshold: 3,
		},
	}
	if br.Device != "" {
		c.Command = append(c.Command, "--grow")
	}
	if b.heals(br) {
		c.Command = append(c.Command, "--heal-volfile="+volfilesPath+"/"+keyHeal, "--heal-socket="+healSocket)
		c.VolumeMounts = append(c.VolumeMounts,
			corev1.VolumeMount{Name: volumeVolfiles, MountPath: volfilesPath, ReadOnly: true})
	}
	switch b.pool.Spec.Type {
	case schema.Disperse:
		c.Command = append(c.Command, "--parts="+strconv.Itoa(b.pool.Spec.DataBricks()))
	case schema.Arbiter:
		c.Command = append(c.Command, "--advisory")
	}
	return c
}

// confined returns a security context with the given capabilities only.
func confined(capabilities ...corev1.Capability) *corev1.SecurityContext {
	yes := true
	return &corev1.SecurityContext{
		ReadOnlyRootFilesystem: &yes,
		Capabilities:           &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: capabilities},
	}
}

// requests returns fixed requests without limits.
func requests(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}
}

// resources parses the quantities of the document.
func resources(r *schema.Resources) (corev1.ResourceRequirements, error) {
	if r == nil {
		return requests("100m", "256Mi"), nil
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
