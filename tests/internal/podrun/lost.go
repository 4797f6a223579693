package podrun

import "fmt"

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
	spec, err := p.container(container)
	if err != nil {
		return err
	}
	p.containers[container], err = c.start(p, spec)
	return err
}

// Ended reports whether a container of the pod has ended. Containers are not restarted.
func (p *Pod) Ended(container string) bool { return p.containers[container].ended() }

// Kill kills a container of the pod.
func (p *Pod) Kill(container string) error { return p.containers[container].kill() }
