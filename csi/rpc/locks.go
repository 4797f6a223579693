package rpc

import (
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Locks lets one call at a time work on a volume. Other calls are told to retry, as the CSI
// specification asks for, and do not wait. The zero value is ready to use.
type Locks struct {
	mu   sync.Mutex
	held map[string]bool
}

// Lock locks a key; ErrBusy when it is locked.
func (l *Locks) Lock(key string) (unlock func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[key] {
		return nil, ErrBusy
	}
	if l.held == nil {
		l.held = map[string]bool{}
	}
	l.held[key] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, key)
	}, nil
}

// LockVolume locks a volume for the controller service, by its name: a request to create a
// volume has no ID yet.
func (l *Locks) LockVolume(name string) (unlock func(), err error) {
	return l.Lock(backend.VolumeKey(name))
}

// LockNodeVolume locks a volume for the node service, by its ID.
func (l *Locks) LockNodeVolume(id string) (unlock func(), err error) { return l.Lock(nodeKey(id)) }

func nodeKey(id string) string { return "node/" + id }

// lockRequest locks what a request changes. Requests that change nothing, and those that name
// nothing valid, which their handlers refuse, need no lock.
func (l *Locks) lockRequest(request any) (unlock func(), err error) {
	key := lockKey(request)
	if key == "" {
		return func() {}, nil
	}
	return l.Lock(key)
}

// lockKey returns the key of the lock that a request needs; "" is none.
func lockKey(request any) string {
	switch r := request.(type) {
	case *csi.CreateVolumeRequest:
		return backend.VolumeKey(volumeid.Name(r.GetName()))
	case *csi.DeleteVolumeRequest:
		return volumeKey(r.GetVolumeId())
	case *csi.ControllerExpandVolumeRequest:
		return volumeKey(r.GetVolumeId())
	case *csi.ControllerModifyVolumeRequest:
		return volumeKey(r.GetVolumeId())
	case *csi.CreateSnapshotRequest:
		return backend.SnapshotKey(volumeid.Name(r.GetName()))
	case *csi.DeleteSnapshotRequest:
		id, err := volumeid.ParseSnapshot(r.GetSnapshotId())
		if err != nil {
			return ""
		}
		return backend.SnapshotKey(id.Name)
	case *csi.NodeStageVolumeRequest:
		return nodeKey(r.GetVolumeId())
	case *csi.NodeUnstageVolumeRequest:
		return nodeKey(r.GetVolumeId())
	case *csi.NodePublishVolumeRequest:
		return nodeKey(r.GetVolumeId())
	case *csi.NodeUnpublishVolumeRequest:
		return nodeKey(r.GetVolumeId())
	case *csi.NodeExpandVolumeRequest:
		if id, err := volumeid.Parse(r.GetVolumeId()); err == nil && id.Layout == schema.Block {
			return nodeKey(r.GetVolumeId())
		}
	}
	return ""
}

func volumeKey(text string) string {
	id, err := volumeid.Parse(text)
	if err != nil {
		return ""
	}
	return backend.VolumeKey(id.Name)
}
