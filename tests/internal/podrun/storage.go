package podrun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// shareMounts makes the cluster's directory a shared mount, which passes mounts on to the
// containers that have it, as a node's root does.
func (c *Cluster) shareMounts() error {
	for _, name := range []string{"logs", "nodes", "pods", "mnt"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, name), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(c.Dir, c.Dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s onto itself: %w", c.Dir, err)
	}
	c.undo = append(c.undo, func() error { return bricks.UnmountBelow(c.Dir) })
	if err := unix.Mount("", c.Dir, "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("", c.Dir, "", unix.MS_SHARED, "")
}

// AddDevice gives a node a blank disk of this size: a sparse file behind a loop device, which
// is detached when the cluster and all mounts of it are closed, or this process ends. It returns
// the loop device.
func (c *Cluster) AddDevice(node, path string, size int64) (string, error) {
	image := filepath.Join(c.Dir, "disk-"+node+"-"+filepath.Base(path))
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return "", err
	}
	d, err := loop.Attach(f, loop.AutoClear)
	if err != nil {
		return "", err
	}
	c.undo = append(c.undo, d.Close)
	var st unix.Stat_t
	if err := unix.Stat(d.Name(), &st); err != nil {
		return "", err
	}
	place := c.NodePath(node, path)
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return "", err
	}
	if err := unix.Mknod(place, unix.S_IFBLK|0o600, int(st.Rdev)); err != nil {
		return "", fmt.Errorf("make the device node %s: %w", place, err)
	}
	// Every node has /dev/null: major 1, minor 3 (null(4)).
	err = unix.Mknod(c.NodePath(node, "/dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return d.Name(), err
}

// SwapDevice puts another, blank disk in the place of a node's disk, which stays mounted where it is.
func (c *Cluster) SwapDevice(node, path string, size int64) error {
	image := filepath.Join(c.Dir, "disk-"+node+"-"+filepath.Base(path))
	if err := errors.Join(os.Rename(image, image+".former"), os.Remove(c.NodePath(node, path))); err != nil {
		return err
	}
	_, err := c.AddDevice(node, path, size)
	return err
}

// GrowDevice grows a disk that AddDevice has made, as a storage array or a hypervisor does.
func (c *Cluster) GrowDevice(node, path string, size int64) error {
	if err := os.Truncate(filepath.Join(c.Dir, "disk-"+node+"-"+filepath.Base(path)), size); err != nil {
		return err
	}
	d, err := os.OpenFile(c.NodePath(node, path), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return loop.Refresh(d)
}

// ClaimPath is the directory of a PersistentVolumeClaim on this machine.
func (c *Cluster) ClaimPath(claim string) string { return filepath.Join(c.Dir, "claims", claim) }

// volume makes a pod's volume and returns its path on this machine.
func (c *Cluster) volume(p *Pod, v corev1.Volume) (string, error) {
	dir := filepath.Join(c.Dir, p.dir, v.Name)
	switch {
	case v.ConfigMap != nil:
		return dir, c.writeConfigMap(v.ConfigMap.Name, dir)
	case v.EmptyDir != nil:
		return dir, os.MkdirAll(dir, 0o755)
	case v.Secret != nil && v.Secret.Optional != nil && *v.Secret.Optional:
		return dir, c.writeSecret(v.Secret.SecretName, dir)
	case v.PersistentVolumeClaim != nil:
		place := c.ClaimPath(v.PersistentVolumeClaim.ClaimName)
		return place, os.MkdirAll(place, 0o755)
	case v.HostPath != nil:
		place := c.NodePath(p.node, v.HostPath.Path)
		if v.HostPath.Type != nil && *v.HostPath.Type == corev1.HostPathDirectoryOrCreate {
			return place, os.MkdirAll(place, 0o755)
		}
		if info, err := os.Stat(place); err != nil || !info.IsDir() {
			return "", fmt.Errorf("node %s has no directory %s", p.node, v.HostPath.Path)
		}
		return place, nil
	}
	return "", fmt.Errorf("volume %s: this type of volume is not supported here", v.Name)
}

func (c *Cluster) writeConfigMap(name, dir string) error {
	for _, o := range c.objects {
		m, is := o.(*corev1.ConfigMap)
		if !is || m.Name != name {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for key, text := range m.Data {
			if err := replaceFile(filepath.Join(dir, key), text); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no ConfigMap %s", name)
}

// writeSecret writes the keys of a Secret, none if it does not exist.
func (c *Cluster) writeSecret(name, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for key, text := range c.Secrets[name] {
		if err := replaceFile(filepath.Join(dir, key), text); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile replaces a file's text atomically.
func replaceFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
