package podrun

import (
	"fmt"
	"slices"
)

// Lose forgets a pod, as deleting it by force does while its node has lost the API server: its
// containers go on, and the name becomes that of a new pod, which is not started.
func (c *Cluster) Lose(pod string) (*Pod, error) {
	p := c.pods[pod]
	if p == nil {
		return nil, fmt.Errorf("no pod %s", pod)
	}
	c.lost = append(c.lost, p)
	if err := c.newPod(pod, fmt.Sprintf("%s-%d", p.dir, len(c.lost)), &p.spec); err != nil {
		return nil, err
	}
	return p, c.writeHosts()
}

// Restart starts a container of a lost pod again, as the kubelet of its node does.
func (c *Cluster) Restart(p *Pod, container string) error {
	for _, spec := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
		if spec.Name == container {
			run, err := c.start(p, spec)
			p.containers[container] = run
			return err
		}
	}
	return fmt.Errorf("pod %s has no container %s", p.Name, container)
}

// Ended reports whether a container of the pod has ended. Containers are not restarted.
func (p *Pod) Ended(container string) bool { return p.containers[container].ended() }

// Kill kills a container of the pod.
func (p *Pod) Kill(container string) error { return p.containers[container].kill() }
