package volfile

import "strconv"

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

// client returns the xlator that connects to one brick.
func (s *stack) client(name string, at Endpoint, ping string, strict bool) *Xlator {
	return s.apply(&Xlator{Name: name, Type: "protocol/client"}, append([]Option{
		{"transport-type", "tcp"},
		{"transport.address-family", "inet"},
		{"remote-host", at.Host},
		// Without a port the client would ask a port mapper, which is not running.
		{"remote-port", strconv.Itoa(at.Port)},
		{"remote-subvolume", at.Directory},
		{"ping-timeout", ping},
		{"send-gids", "true"},
		{"strict-locks", map[bool]string{true: "on", false: "off"}[strict]},
	}, s.login...))
}
