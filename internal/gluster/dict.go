package gluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// dictionary serializes string pairs as dict_serialize of libglusterfs does: a count, then
// for each pair both lengths, the key with a NUL, and the value with a NUL.
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

// ErrDictionary says that data is not a dictionary.
var ErrDictionary = errors.New("malformed dictionary")

// maxPairs bounds the size of a dictionary.
const maxPairs = 10_000

// ParseDictionary parses the output of dict_serialize. A NUL at the end of a value is removed.
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
