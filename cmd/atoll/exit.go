package main

import "errors"

// The exit codes of every command, the one place that knows them.
const (
	exitOK        = 0 // done, nothing found
	exitFindings  = 1 // the documents have errors; they were printed
	exitDangerous = 2 // plan: the change would be dangerous; it was printed
	exitFailed    = 3 // the command could not do its work: usage, files, output
)

var (
	errFindings  = errors.New("the documents have errors")
	errDangerous = errors.New("the change is dangerous")
)

// isSilent reports whether the error's text is already on the output.
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
