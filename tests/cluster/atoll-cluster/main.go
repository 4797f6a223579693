// Command atoll-cluster boots a Kubernetes cluster on this machine, and ends it.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/cluster"
)

func main() {
	cluster.Child()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "atoll-cluster:", err)
		os.Exit(1)
	}
}

// limit is the timeout, for a busy machine with an empty build cache; an idle machine needs a
// tenth of it.
const limit = 20 * time.Minute

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: atoll-cluster up|down|images, in the project's directory")
	}
	dir, err := filepath.Abs(".cache/cluster")
	if err != nil {
		return err
	}
	report := func(s string) { fmt.Println(s) }
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch args[0] {
	case "images":
		return cluster.BuildImages(ctx, ".", report)
	case "up":
		c, err := cluster.Up(ctx, cluster.Default(dir), report)
		if err != nil {
			return err
		}
		built, err := filepath.Abs("bin/linux-" + runtime.GOARCH) // with 'atoll', by 'make images'
		if err != nil {
			return err
		}
		fmt.Printf("export KUBECONFIG=%s PATH=%s:%s:$PATH\n", c.Kubeconfig, c.Programs, built)
		return nil
	case "down":
		return cluster.Down(dir)
	}
	return fmt.Errorf("unknown command %q: want up, down or images", args[0])
}
