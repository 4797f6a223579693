package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/mounts"
)

// mounter is the role mounter.
type mounter struct {
	*flags
	socket, node, generation string
}

// runGeneration runs the mount server as one of several of the node. When ctx ends, it goes on until
// nothing needs it.
func (m *mounter) runGeneration(ctx context.Context) error {
	g := &mounts.Generation{
		Name: m.generation, Sockets: generations(m.socket), Current: m.socket, Mounts: m.mounts, Log: m.log(),
	}
	err := g.Prepare(ctx, func(dir string) error {
		if m.node == "" {
			return nil
		}
		return m.devices(dir, nil).Start() // detaches and thaws what it had
	})
	if err != nil {
		return err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer g.Remove()
	return m.run(running, g.Dir(), g.Socket(), func(clients *mounts.Clients) func(context.Context) error {
		return func(running context.Context) error {
			leading, stop := context.WithCancel(ctx)
			defer stop()
			defer context.AfterFunc(running, stop)()
			if err := g.Lead(leading); err != nil {
				return err
			}
			clients.WaitUnused(running)
			end()
			return nil
		}
	})
}

// devices are the block volumes of the node whose clients are mounted below a directory.
func (m *mounter) devices(dir string, clients *mounts.Clients) *blockdev.Manager {
	return &blockdev.Manager{Pools: clients, Catalog: m.folder(), Node: m.node, Dir: dir, Log: m.log()}
}

// run runs the mount server until ctx ends, and beside it what beside returns.
func (m *mounter) run(
	ctx context.Context, dir, socket string, beside func(*mounts.Clients) func(context.Context) error,
) error {
	clients, err := mounts.New(dir, m.log())
	if err != nil {
		return err
	}
	defer clients.Close()
	server := &mounts.Server{Catalog: m.folder(), Clients: clients}
	metrics := prometheus.Gatherers{clients.Metrics()}
	services := []func(context.Context) error{
		func(ctx context.Context) error { return server.Serve(ctx, socket) },
		func(ctx context.Context) error { return clients.Run(ctx, m.folder()) },
	}
	if m.node != "" {
		server.Devices = m.devices(dir, clients)
		clients.HoldsVolumes = server.Devices.Holds
		if err := server.Devices.Start(); err != nil {
			return err
		}
		services = append(services, server.Devices.KeepLocks, server.Devices.ServeFreezes)
		metrics = append(metrics, server.Devices.Metrics())
	}
	if beside != nil {
		services = append(services, beside(clients))
	}
	return serve(ctx, m.flags, m.withMetrics(metrics), services...)
}
