// Command atoll checks, renders, compares and explains storage pool documents.
//
// Its exit codes are listed in exit.go and in docs/cli.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/schema/report"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main for tests: it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !isSilent(err) {
		fmt.Fprintln(stderr, "atoll: "+err.Error())
	}
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "atoll",
		Short: "GlusterFS storage pools as code",
		Long: `atoll checks storage pool documents, renders them into Kubernetes objects,
and shows what a change to them would do.

A PATH is a file (YAML, JSON or CUE), a directory, a directory with a
kustomization, or - for standard input.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newVet(), newRender(), newApply(), newGet(), newStatus(), newPlan(), newExplain(), newConvert(),
		newFn(), newSchema(), newVolumes(), newHeal(), newVersion())
	return root
}

// load reads the documents of the paths. When they have errors, it prints them and returns
// errFindings, so that no command uses a document that vet rejects.
func load(cmd *cobra.Command, paths []string) (*loader.Result, error) {
	return loadFrom(cmd, paths, func(file string) string { return file })
}

// loadFrom is load for files that diagnostics show under another name.
func loadFrom(cmd *cobra.Command, paths []string, displayName func(file string) string) (*loader.Result, error) {
	if len(paths) == 0 {
		paths = []string{"."}
	}
	result, err := loader.Load(cmd.Context(), loader.Options{Stdin: cmd.InOrStdin()}, paths...)
	if err != nil {
		return nil, err
	}
	summary := report.Summarize(len(result.Documents), result.Diagnostics)
	for _, d := range result.Diagnostics {
		d.Position.File = displayName(d.Position.File)
		fmt.Fprintln(cmd.ErrOrStderr(), d)
	}
	if summary.Errors > 0 {
		return nil, errFindings
	}
	return result, nil
}

// documentsOf returns the pools of the documents, in order.
func documentsOf(r *loader.Result) []*schema.Pool {
	list := make([]*schema.Pool, 0, len(r.Documents))
	for _, d := range r.Documents {
		list = append(list, d.Pool)
	}
	return list
}
