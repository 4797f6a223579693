package volfile

import (
	"strconv"

	"github.com/atoll-storage/atoll/schema"
)

// stack builds a graph from the bottom up and applies the pool's options to each layer.
type stack struct {
	pool    string
	options map[string]string
	graph   graph
	login   []Option // credentials of clients
	top     *Xlator
}

// push adds an xlator named after the pool on top.
func (s *stack) push(suffix, kind string, options ...Option) {
	s.pushNamed(s.pool+"-"+suffix, kind, options...)
}

func (s *stack) pushNamed(name, kind string, options ...Option) {
	x := &Xlator{Name: name, Type: kind}
	if s.top != nil {
		x.Subvolumes = []*Xlator{s.top}
	}
	s.top = s.apply(x, options)
}

// toggled pushes an xlator unless an option, or its default, switches it off.
func (s *stack) toggled(suffix, kind, option string, on bool) {
	if v, set := s.options[option]; set {
		on = v == "on"
	}
	if on {
		s.push(suffix, kind)
	}
}

// apply adds defaults and then the pool's options to an xlator. A pool option replaces a
// default of the same name.
func (s *stack) apply(x *Xlator, defaults []Option) *Xlator {
	for _, o := range defaults {
		x.set(o)
	}
	for _, m := range optionTable {
		if value, set := s.options[m.name]; set && m.option != "" && m.xlator == x.Type && m.graphs&s.graph != 0 {
			x.set(Option{m.option, value})
		}
	}
	return x
}

// set replaces an option or adds it.
func (x *Xlator) set(o Option) {
	for i := range x.Options {
		if x.Options[i].Name == o.Name {
			x.Options[i] = o
			return
		}
	}
	x.Options = append(x.Options, o)
}

// patience is how long a client waits for a brick before it disconnects, in seconds.
type patience struct {
	// process is for a brick that does not answer, although its node does: it may only be busy. A
	// client asks at this interval and waits as long, so it may take twice the time.
	process string
	// node is for a node that acknowledges nothing: it is off, frozen or cut off, as the kernel of a
	// busy one acknowledges what its processes do not read.
	node string
}

// patience returns the default of a graph, or what the pool sets for both. A block volume must not wait
// longer: see docs/block-volumes.md.
func (s *stack) patience() patience {
	if value, set := s.options["network.ping-timeout"]; set {
		return patience{value, value}
	}
	if s.graph == blockGraph {
		return patience{"5", "5"}
	}
	return patience{"42", strconv.Itoa(schema.NodeTimeout)}
}

// client returns the xlator that connects to one brick.
func (s *stack) client(name string, at Endpoint) *Xlator {
	wait := s.patience()
	return s.apply(&Xlator{Name: name, Type: "protocol/client"}, append([]Option{
		{"transport-type", "tcp"},
		{"transport.address-family", "inet"},
		{"remote-host", at.Host},
		// Without a port the client would ask a port mapper, which is not running.
		{"remote-port", strconv.Itoa(at.Port)},
		{"remote-subvolume", at.Directory},
		{"ping-timeout", wait.process},
		// Also for attempts to connect: the kernel would repeat them ever more rarely, and find a
		// node that is back half a minute later.
		{"transport.tcp-user-timeout", wait.node},
		// So that a silent node is found although nothing is sent to it.
		{"transport.socket.keepalive-time", strconv.Itoa(schema.KeepaliveTime)},
		{"transport.socket.keepalive-interval", strconv.Itoa(schema.KeepaliveInterval)},
		{"send-gids", "true"},
		{"strict-locks", map[bool]string{true: "on", false: "off"}[s.graph == blockGraph]},
	}, s.login...))
}
