package cluster

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/cluster/machine"
)

// glusterLimit is the timeout for glusterd's first response.
const glusterLimit = time.Minute

// runGluster runs a conventional storage server: glusterd, with volumes created by its CLI.
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
	if err := s.setUpNetwork(GlusterAddress); err != nil {
		return err
	}
	p := &machine.Processes{Log: s.path("log")}
	if err := p.AddCommand("glusterd", "glusterd", "--no-daemon", "--log-file", "/dev/stdout"); err != nil {
		return err
	}
	for start := time.Now(); exec.Command("gluster", "--mode=script", "pool",
		"list").Run() != nil; time.Sleep(200 * time.Millisecond) {
		if time.Since(start) > glusterLimit {
			return fmt.Errorf("glusterd does not respond within %s", glusterLimit)
		}
	}
	for _, v := range s.External {
		if exec.Command("gluster", "--mode=script", "volume", "info", v).Run() == nil {
			continue // it exists since before a restart
		}
		if err := machine.RunCommands(
			[]string{"gluster", "--mode=script", "volume", "create", v, GlusterAddress + ":/srv/" + v, "force"},
			[]string{"gluster", "--mode=script", "volume", "start", v},
		); err != nil {
			return err
		}
	}
	select {}
}
