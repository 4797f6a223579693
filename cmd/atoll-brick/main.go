// Command atoll-brick runs in brick pods.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/brick/prepare"
	"github.com/atoll-storage/atoll/brick/supervise"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use: "atoll-brick", Short: "Programs of a brick pod", SilenceUsage: true,
		SilenceErrors: true,
	}
	root.AddCommand(newPrepare(), newVolfiles(), newAgent(), newJoin(), newRebalance(), newQuotad(), newSupervise())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "atoll-brick: "+err.Error())
		leaveMessage(terminationLog, err)
		os.Exit(1)
	}
}

// terminationLog is the file from which the kubelet takes why a container ended, for the status of
// its pod (the default of terminationMessagePath).
const terminationLog = "/dev/termination-log"

// leaveMessage writes why this process ends, in a container. Elsewhere there is no such file.
func leaveMessage(file string, reason error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteString(reason.Error()) // the log has it too
}

// prepareLimit is how long preparing a brick may take.
const prepareLimit = 2 * time.Minute

func newPrepare() *cobra.Command {
	var b prepare.Brick
	var id, programs string
	cmd := &cobra.Command{
		Use: "prepare", Short: "Prepare a brick: mount it, verify that it belongs to the pool, mark it",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if b.VolumeID, err = uuid.Parse(id); err != nil {
				return fmt.Errorf("--volume-id %q is not a UUID", id)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), prepareLimit)
			defer cancel()
			if programs != "" {
				if err := supervise.Install(programs); err != nil {
					return err
				}
			}
			log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil)).WithValues("pool", b.Pool, "brick",
				b.Position)
			if err := prepare.Run(ctx, b, log); err != nil {
				return fmt.Errorf("pool %s, brick %s: %w", b.Pool, b.Position, err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.Pool, "pool", "", "name of the pool")
	f.StringVar(&b.Position, "brick", "", "index of the brick, or ta")
	f.StringVar(&id, "volume-id", "", "volume ID of the pool")
	f.StringVar(&b.Directory, "directory", "", "directory of the brick")
	f.StringVar(&b.Device, "device", "",
		"block device or file to mount at the parent directory; a blank one gets a file system")
	f.IntVar(&b.Generation, "generation", 1, "number of bricks that have been in this position, including this one")
	f.StringVar(&b.State, "state", "", "directory with this node's records of its bricks")
	f.StringVar(&b.Place, "place", "", "device, path or claim in the pool's document, for the record")
	f.StringSliceVar(&b.Set.Positions, "set", nil,
		"indices of the bricks of its set, to verify the position of a brick of another operator")
	f.BoolVar(&b.Set.Disperse, "disperse", false, "its set is a Disperse set")
	f.BoolVar(&b.Set.Arbiter, "arbiter", false, "it is the arbiter of its set")
	f.StringVar(&programs, "install", "",
		"directory in which to put a copy of this program, for the containers whose images do not have it")
	f.BoolVar(&b.Set.Confirmed, "order-confirmed", false, "do not verify the position of a brick of another operator")
	for _, name := range []string{"pool", "brick", "volume-id", "directory"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists
	}
	return cmd
}
