package gluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// dictionary writes GlusterFS's own serialisation of string pairs (dict_serialize
// in libglusterfs): a count, then for each pair both lengths, the key with a NUL,
// and the value with one.
func dictionary(pairs ...string) []byte {
	out := oncrpc.Numbers(uint32(len(pairs) / 2))
	for i := 0; i+1 < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		out = append(out, oncrpc.Numbers(uint32(len(key)), uint32(len(value)+1))...)
		out = append(append(out, key...), 0)
		out = append(append(out, value...), 0)
	}
	return out
}

// ErrDictionary says that what a process has sent is no dictionary.
var ErrDictionary = errors.New("the dictionary cannot be understood")

// maxPairs is the most that a dictionary is read with.
const maxPairs = 10_000

// ParseDictionary reads what dict_serialize has written. Values are as they came, less
// the NUL at the end of strings.
func ParseDictionary(data []byte) (map[string]string, error) {
	if len(data) == 0 {
		return map[string]string{}, nil
	}
	r := oncrpc.NewReader(data)
	count := r.Number()
	if r.Err() != nil || count > maxPairs {
		return nil, fmt.Errorf("%w: %d pairs", ErrDictionary, count)
	}
	all := make(map[string]string, count)
	for range count {
		keyLength, valueLength := r.Number(), r.Number()
		key := string(r.Take(int(keyLength) + 1))
		value := string(r.Take(int(valueLength)))
		if r.Err() != nil || !strings.HasSuffix(key, "\x00") {
			return nil, ErrDictionary
		}
		all[key[:len(key)-1]] = strings.TrimSuffix(value, "\x00")
	}
	return all, nil
}
