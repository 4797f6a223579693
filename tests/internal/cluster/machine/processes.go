package machine

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Processes are a machine's named processes. A process that ends by itself is restarted after
// a second, as an init system does; a stopped process is not.
type Processes struct {
	// Log is the directory of their logs.
	Log string

	mu   sync.Mutex
	runs map[string]*process
}

type process struct {
	start  func(log *os.File) (*exec.Cmd, error)
	cmd    *exec.Cmd
	wanted bool
	ended  chan struct{} // closed when cmd has ended
}

// AddCommand adds a process with a command line and starts it.
func (p *Processes) AddCommand(name string, command ...string) error {
	return p.Add(name, func(log *os.File) (*exec.Cmd, error) {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Stdout, cmd.Stderr = log, log
		return cmd, cmd.Start()
	})
}

// Add adds a process that a function starts, and starts it.
func (p *Processes) Add(name string, start func(log *os.File) (*exec.Cmd, error)) error {
	p.mu.Lock()
	if p.runs == nil {
		p.runs = map[string]*process{}
	}
	p.runs[name] = &process{start: start}
	p.mu.Unlock()
	return p.Start(name)
}

// Start starts a stopped process.
func (p *Processes) Start(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.runs[name]
	if r == nil {
		return fmt.Errorf("unknown process %s", name)
	}
	r.wanted = true
	if r.cmd != nil {
		return nil
	}
	return p.launch(name, r)
}

// launch starts the process. The caller has locked p.mu.
func (p *Processes) launch(name string, r *process) error {
	log, err := os.OpenFile(filepath.Join(p.Log, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, err := r.start(log)
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	r.cmd, r.ended = cmd, make(chan struct{})
	go p.wait(name, r, cmd, r.ended)
	return nil
}

func (p *Processes) wait(name string, r *process, cmd *exec.Cmd, ended chan struct{}) {
	_ = cmd.Wait() // the log below has its state
	p.mu.Lock()
	r.cmd = nil
	close(ended)
	restart := r.wanted
	p.mu.Unlock()
	fmt.Fprintf(os.Stderr, "%s %s: %s\n", time.Now().Format(time.TimeOnly), name, cmd.ProcessState)
	if !restart {
		return
	}
	time.Sleep(time.Second)
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.wanted && r.cmd == nil {
		if err := p.launch(name, r); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// Stop sends a signal, and waits until the process ends after SIGKILL and SIGTERM.
func (p *Processes) Stop(name string, signal syscall.Signal) error {
	p.mu.Lock()
	r := p.runs[name]
	if r == nil {
		p.mu.Unlock()
		return fmt.Errorf("unknown process %s", name)
	}
	r.wanted = false
	cmd, ended := r.cmd, r.ended
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("sending %v to %s: %w", signal, name, err)
	}
	if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
		<-ended
	}
	return nil
}

// Pid returns the PID of a process in this machine's namespace, 0 if it does not run.
func (p *Processes) Pid(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.runs[name]; r != nil && r.cmd != nil {
		return r.cmd.Process.Pid
	}
	return 0
}

// Request is a request at a control socket: Verb is start, stop, or a verb of the machine.
type Request struct {
	Verb, Name string
	Signal     syscall.Signal `json:",omitempty"`
}

// Serve handles requests at a socket; it passes those with other verbs to more.
func (p *Processes) Serve(socket string, more func(Request) error) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var o Request
		err := json.NewDecoder(r.Body).Decode(&o)
		if err == nil {
			switch o.Verb {
			case "start":
				err = p.Start(o.Name)
			case "stop":
				err = p.Stop(o.Name, o.Signal)
			default:
				err = more(o)
			}
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
}
