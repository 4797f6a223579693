package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var (
	now  = time.Unix(1_800_000_000, 0)
	key  = bytes.Repeat([]byte("k"), minKey)
	body = []byte(`{"folder":"subvol/aa/bb/v","bytes":1}`)
)

func TestTokens(t *testing.T) {
	good, err := Keys{key}.Sign("n/p/0", body, now)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(method jwt.SigningMethod, c claims, key any) string {
		t.Helper()
		text, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	registered := func(issued, expires time.Time) claims {
		return claims{jwt.RegisteredClaims{
			Audience: jwt.ClaimStrings{"n/p/0"}, IssuedAt: jwt.NewNumericDate(issued),
			ExpiresAt: jwt.NewNumericDate(expires),
		}, digest(body)}
	}
	other := bytes.Repeat([]byte("o"), minKey)
	for name, test := range map[string]struct {
		keys     Keys
		token    string
		audience string
		body     []byte
		at       time.Time
		good     bool
	}{
		"good":            {Keys{key}, good, "n/p/0", body, now, true},
		"during rotation": {Keys{other, key}, good, "n/p/0", body, now, true},
		"clocks differ":   {Keys{key}, good, "n/p/0", body, now.Add(-20 * time.Second), true},
		"expired":         {Keys{key}, good, "n/p/0", body, now.Add(2 * time.Minute), false},
		"of the future":   {Keys{key}, good, "n/p/0", body, now.Add(-time.Hour), false},
		"for other brick": {Keys{key}, good, "n/p/1", body, now, false},
		"for other body":  {Keys{key}, good, "n/p/0", append([]byte(" "), body...), now, false},
		"with other key":  {Keys{other}, good, "n/p/0", body, now, false},
		"without keys":    {nil, good, "n/p/0", body, now, false},
		"missing":         {Keys{key}, "", "n/p/0", body, now, false},
		"garbage":         {Keys{key}, "a.b.c", "n/p/0", body, now, false},
		"unsigned": {Keys{key}, sign(jwt.SigningMethodNone, registered(now, now.Add(tokenLife)),
			jwt.UnsafeAllowNoneSignatureType), "n/p/0", body, now, false},
		"other algorithm": {
			Keys{key},
			sign(jwt.SigningMethodHS512, registered(now, now.Add(tokenLife)), key), "n/p/0",
			body, now, false,
		},
		"good for a year": {
			Keys{key},
			sign(jwt.SigningMethodHS256, registered(now, now.Add(time.Hour*8760)), key),
			"n/p/0", body, now, false,
		},
		"without a period": {
			Keys{key},
			sign(jwt.SigningMethodHS256, claims{Body: digest(body)}, key), "n/p/0", body,
			now, false,
		},
	} {
		if err := test.keys.Verify(test.token, test.audience, test.body, test.at); (err == nil) != test.good ||
			err != nil && !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Keys{}).Sign("n/p/0", body, now); !errors.Is(err, ErrToken) {
		t.Errorf("signed without a key: %v", err)
	}
}

func TestReadKeys(t *testing.T) {
	dir := t.TempDir()
	if keys, err := ReadKeys(filepath.Join(dir, "none")); err != nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
	for name, text := range map[string]string{"1": "old", "2": "new", "..data": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(text, 20)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := ReadKeys(dir); err != nil || len(keys) != 2 || !bytes.HasPrefix(keys[0], []byte("new")) {
		t.Errorf("%q, %v", keys, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "3"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(dir); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("a short key: %v", err)
	}
}
