// Package images builds container images without an engine or a registry: the project's from
// its Dockerfile, by running its instructions in directories, and others from one program
// each. The result is an archive that containerd imports.
package images

import (
	"encoding/json"
	"fmt"
	"strings"
)

// stage is one FROM of a Dockerfile with the instructions after it.
type stage struct {
	name, from string
	steps      []step
}

// step is one instruction: its keyword, in capitals, and the rest of its line, or the
// document of a RUN with a here-document.
type step struct {
	line       int
	word, rest string
}

// parse reads the part of the Dockerfile language that the project uses. Anything else is
// an error: ignoring an instruction would build other images than docker does.
func parse(text string) ([]stage, error) {
	var stages []stage
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		at := i + 1
		line := strings.TrimSpace(lines[i])
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + strings.TrimSpace(lines[i])
		}
		word, rest, _ := strings.Cut(line, " ")
		s := step{line: at, word: strings.ToUpper(word), rest: strings.TrimSpace(rest)}
		switch s.word {
		case "FROM":
			f := strings.Fields(s.rest)
			if len(f) != 3 || !strings.EqualFold(f[1], "as") {
				return nil, fmt.Errorf("line %d: want FROM <image> AS <name>, have %q", at, line)
			}
			stages = append(stages, stage{from: f[0], name: f[2]})
			continue
		case "RUN":
			if mark, ok := strings.CutPrefix(s.rest, "<<"); ok {
				body := lines[i+1:]
				end := indexOf(body, mark)
				if end < 0 {
					return nil, fmt.Errorf("line %d: the here-document has no end %s", at, mark)
				}
				s.rest = strings.Join(body[:end], "\n")
				i += end + 1
			}
		case "COPY", "ENV", "LABEL", "USER", "ENTRYPOINT", "ARG":
		default:
			return nil, fmt.Errorf("line %d: %s is not supported", at, s.word)
		}
		if len(stages) == 0 {
			return nil, fmt.Errorf("line %d: %s before the first FROM", at, s.word)
		}
		last := &stages[len(stages)-1]
		last.steps = append(last.steps, s)
	}
	return stages, nil
}

func indexOf(lines []string, want string) int {
	for i, l := range lines {
		if strings.TrimSpace(l) == want {
			return i
		}
	}
	return -1
}

// settings are the fields of an image's configuration that instructions set.
type settings struct {
	Env        []string          `json:"Env,omitempty"`
	Entrypoint []string          `json:"Entrypoint,omitempty"`
	Cmd        []string          `json:"Cmd,omitempty"`
	User       string            `json:"User,omitempty"`
	Labels     map[string]string `json:"Labels,omitempty"`
}

// apply applies an instruction that changes no files.
func (c *settings) apply(s step) error {
	switch s.word {
	case "ENV":
		c.Env = append(c.Env, s.rest)
	case "USER":
		c.User = s.rest
	case "ENTRYPOINT":
		c.Entrypoint = nil
		if err := json.Unmarshal([]byte(s.rest), &c.Entrypoint); err != nil {
			return fmt.Errorf("line %d: ENTRYPOINT is not a JSON list: %w", s.line, err)
		}
	case "LABEL":
		for _, pair := range splitQuoted(s.rest) {
			k, v, _ := strings.Cut(pair, "=")
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[k] = v
		}
	}
	return nil
}

// splitQuoted splits at spaces outside quotes, and removes the quotes.
func splitQuoted(s string) []string {
	var out []string
	var b strings.Builder
	in := false
	for _, r := range s {
		switch {
		case r == '"':
			in = !in
		case r == ' ' && !in:
			if b.Len() > 0 {
				out = append(out, b.String())
				b.Reset()
			}
		default:
			b.WriteRune(r)
		}
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	return out
}
