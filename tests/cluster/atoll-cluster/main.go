// Command atoll-cluster boots a Kubernetes cluster on this machine, and ends it.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/atoll-storage/atoll/tests/cluster"
)

func main() {
	cluster.Child()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "atoll-cluster:", err)
		os.Exit(1)
	}
}

// limit is for a machine that is busy otherwise and has compiled nothing yet; a free one takes a
// tenth of it.
const limit = 20 * time.Minute

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: atoll-cluster up|down|images, in the project's folder")
	}
	dir, err := filepath.Abs(".cache/cluster")
	if err != nil {
		return err
	}
	say := func(s string) { fmt.Println(s) }
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch args[0] {
	case "images":
		return cluster.BuildImages(ctx, ".", say)
	case "up":
		c, err := cluster.Up(ctx, cluster.Default(dir), say)
		if err != nil {
			return err
		}
		fmt.Printf("export KUBECONFIG=%s PATH=%s:$PATH\n", c.Kubeconfig, c.Programs)
		return nil
	case "down":
		return cluster.Down(dir)
	}
	return fmt.Errorf("%s is not up, down or images", args[0])
}
