package repair

import (
	"context"
	"time"
)

// hangingMount is a mount whose client hangs, and since when that is known.
type hangingMount struct {
	clientMount
	since time.Time
}

// reportHanging reports the mounts whose client has begun to hang since the last call, and those whose
// client answers again or has ended. Nothing ends a client that runs.
func (r *remounter) reportHanging(ctx context.Context, all []clientMount) {
	now, before := map[string]hangingMount{}, r.hanging
	for _, m := range all {
		known, was := before[m.Mountpoint]
		if !was {
			known = hangingMount{m, time.Now()}
			r.reportHang(ctx, known, false)
		}
		now[m.Mountpoint] = known
	}
	r.hanging = now
	for at, m := range before {
		if _, still := now[at]; !still {
			r.reportHang(ctx, m, true)
		}
	}
}

// reportHang logs that a client hangs or no longer does, and writes an event of the pod.
func (r *remounter) reportHang(ctx context.Context, m hangingMount, ended bool) {
	log := r.Log.WithValues("volume", m.id.String(), "target", m.Mountpoint)
	if ended {
		log.Info("client hangs no more", "after", time.Since(m.since).Round(time.Second).String())
	} else {
		log.Info("client hangs; calls to the volume wait")
	}
	if m.pod != "" && r.Events != nil {
		r.notices.write(ctx, r.Log, func(ctx context.Context) error {
			return r.Events.ClientHangs(ctx, m.pod, m.persistentVolume, m.since, ended)
		})
	}
}
