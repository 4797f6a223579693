// Package spawn starts processes that the kernel ends when this one does.
package spawn

import (
	"os/exec"
	"runtime"
	"sync"
)

// Start is cmd.Start for commands with a Pdeathsig: the kernel sends that signal
// when the thread that started the process ends, not when the program does, and
// Go ends threads. So one thread starts them all, and lasts.
func Start(cmd *exec.Cmd) error {
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})
