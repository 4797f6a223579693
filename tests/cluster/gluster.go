package cluster

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/atoll-storage/atoll/tests/cluster/machine"
)

// glusterLimit is how long glusterd may take until it answers.
const glusterLimit = time.Minute

// runGluster is a storage server as people have them: glusterd, and volumes made with its CLI.
func runGluster(raw json.RawMessage) error {
	var s Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	dir := s.path("nodes", "gluster")
	if err := machine.Root(filepath.Join(dir, "root"), []machine.Bind{
		{From: s.path("log"), To: s.path("log")},
		{From: filepath.Join(dir, "glusterd"), To: "/var/lib/glusterd"},
		{From: filepath.Join(dir, "srv"), To: "/srv"},
	}); err != nil {
		return err
	}
	if err := s.network(GlusterAddress); err != nil {
		return err
	}
	p := &machine.Processes{Log: s.path("log")}
	if err := p.Command("glusterd", "glusterd", "--no-daemon", "--log-file", "/dev/stdout"); err != nil {
		return err
	}
	for start := time.Now(); exec.Command("gluster", "--mode=script", "pool", "list").Run() != nil; time.Sleep(200 * time.Millisecond) {
		if time.Since(start) > glusterLimit {
			return fmt.Errorf("glusterd does not answer")
		}
	}
	for _, v := range s.External {
		if exec.Command("gluster", "--mode=script", "volume", "info", v).Run() == nil {
			continue // it was there before a restart
		}
		if err := machine.Commands(
			[]string{"gluster", "--mode=script", "volume", "create", v, GlusterAddress + ":/srv/" + v, "force"},
			[]string{"gluster", "--mode=script", "volume", "start", v},
		); err != nil {
			return err
		}
	}
	select {}
}
