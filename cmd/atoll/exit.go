package main

import "errors"

// The exit codes of all commands. They are defined only here.
const (
	exitOK        = 0 // success, no findings
	exitFindings  = 1 // the documents have errors, which were printed
	exitDangerous = 2 // plan: the change is dangerous, and was printed
	exitFailed    = 3 // the command failed: usage, files, output
)

var (
	errFindings  = errors.New("the documents have errors")
	errDangerous = errors.New("the change is dangerous")
)

// isSilent reports whether the details of an error have already been printed.
func isSilent(err error) bool {
	return errors.Is(err, errFindings) || errors.Is(err, errDangerous)
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFindings):
		return exitFindings
	case errors.Is(err, errDangerous):
		return exitDangerous
	default:
		return exitFailed
	}
}
