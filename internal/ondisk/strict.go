package ondisk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// decode decodes exactly one JSON value. It refuses unknown fields, which a newer program may
// have written.
func decode(text []byte, into any, what string) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrRecord, what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: unexpected data after %s", ErrRecord, what)
	}
	return nil
}

func encode(v any, what string) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return text, nil
}
