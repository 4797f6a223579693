package host

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/ports"
)

// Address returns an address of loopback on which nothing listens.
func Address(t *testing.T) string {
	t.Helper()
	port, err := ports.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// Get reads a page that a role serves.
func Get(t *testing.T, address, path string) string {
	t.Helper()
	client := &http.Client{Timeout: 30 * time.Second}
	answer, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
