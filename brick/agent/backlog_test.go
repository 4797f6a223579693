package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// linksPerFile is below the hard links that ext4 allows for a file (EXT4_LINK_MAX, 65,000).
const linksPerFile = 60_000

// numberedID is a GFID by which entries can be ordered.
func numberedID(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

// fillIndex adds entries to an index as GlusterFS does: hard links to a base file.
func fillIndex(t *testing.T, s *Server, from, to int) {
	t.Helper()
	d, err := os.Open(filepath.Join(s.Directory, indices, "xattrop"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	at := int(d.Fd())
	base := ""
	for n := from; n < to; n++ {
		if base == "" || n%linksPerFile == 0 {
			base = "xattrop-" + uuid.NewString()
			fd, err := unix.Openat(at, base, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
		if err := unix.Linkat(at, base, at, numberedID(n), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// allocated is how many bytes a request allocates in the agent.
func allocated(t *testing.T, h http.Handler, make func() *http.Request) uint64 {
	t.Helper()
	least := ^uint64(0)
	for range 3 { // other goroutines of the test may allocate too
		r, w := make(), httptest.NewRecorder()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h.ServeHTTP(w, r)
		runtime.ReadMemStats(&after)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", r.URL, w.Code, w.Body)
		}
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// inMemory is a directory in memory if there is one: it takes many files fast.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "atoll-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // it is in memory
	return dir
}

// TestMemoryOfLargeIndex: requests need no more memory for more entries. ATOLL_INDEX_ENTRIES is
// another number of entries, ATOLL_INDEX_BELOW another directory.
func TestMemoryOfLargeIndex(t *testing.T) {
	few, many := 2*maxLowest, 200_000
	if n, err := strconv.Atoi(os.Getenv("ATOLL_INDEX_ENTRIES")); err == nil {
		many = n
	}
	h, s := newServer(t)
	if s.Directory = os.Getenv("ATOLL_INDEX_BELOW"); s.Directory == "" {
		s.Directory = inMemory(t)
	}
	if err := os.MkdirAll(filepath.Join(s.Directory, indices, "xattrop"), 0o700); err != nil {
		t.Fatal(err)
	}
	get := func(path string) func() *http.Request {
		return func() *http.Request { return httptest.NewRequest(http.MethodGet, path, http.NoBody) }
	}
	handler := s.Handler()
	requests := map[string]func() *http.Request{
		"GET " + agent.PathStatus: get(agent.PathStatus), "GET /metrics": get("/metrics"),
		"POST " + agent.PathPending: func() *http.Request {
			return signedRequest(t, h.URL+agent.PathPending, []byte(`{"limit":1000}`))
		},
	}
	fillIndex(t, s, 0, few)
	before := map[string]uint64{}
	for name, request := range requests {
		before[name] = allocated(t, handler, request)
	}
	begin := time.Now()
	fillIndex(t, s, few, many)
	t.Logf("%d entries in %s", many, time.Since(begin).Round(time.Millisecond))
	for name, request := range requests {
		begin := time.Now()
		n := allocated(t, handler, request)
		t.Logf("%s: %d KiB with %d entries, %d KiB with %d entries, %s", name, before[name]>>10, few, n>>10, many,
			time.Since(begin)/3)
		if n > before[name]+before[name]/10+(256<<10) {
			t.Errorf("%s allocates %d bytes with %d entries, %d with %d", name, before[name], few, n, many)
		}
	}
	if n, err := s.backlog(t.Context()); err != nil || n != many {
		t.Errorf("%d entries, %v; want %d", n, err, many)
	}
}

// TestLowestPending: the lowest GFIDs are listed in order, whatever their order in the directory.
func TestLowestPending(t *testing.T) {
	for _, n := range []int{0, 1, maxLowest - 1, maxLowest, maxLowest + 1, 2*maxLowest + 1, 5 * maxLowest} {
		for name, number := range map[string]func(i int) int{
			"ascending": func(i int) int { return i }, "descending": func(i int) int { return n - 1 - i },
			"mixed": func(i int) int { return (i*7919 + 13) % max(1, n) }, // 7919 is a prime
		} {
			var l lowest
			for i := range n {
				for range 1 + i%2 { // some twice
					l.add(uuid.MustParse(numberedID(number(i))))
				}
			}
			l.sort()
			last := min(n, maxLowest) - 1
			if len(l.ids) != last+1 || l.more != (n > maxLowest) || !slices.IsSortedFunc(l.ids, compareIDs) ||
				last >= 0 && l.ids[last].String() != numberedID(last) || cap(l.ids) > 4*maxLowest {
				t.Errorf("%d %s: %d are listed, more: %t", n, name, len(l.ids), l.more)
			}
		}
	}
}

// TestListPending: entries are listed in the order of their GFIDs up to the limit, and those that
// have no counter do not count.
func TestListPending(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	h, s := newServer(t)
	fillIndex(t, s, 0, 100)
	for n := 90; n >= 10; n -= 10 {
		id := uuid.MustParse(numberedID(n))
		path := filepath.Join(s.Directory, gfidPath(id))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string][]byte{
			gfidAttribute: id[:], ondisk.PendingAttribute + "p-client-1": {3: 1, 11: 0},
		} {
			if err := unix.Setxattr(path, name, value, 0); err != nil {
				t.Skipf("the directory for temporary files does not support trusted attributes: %v", err)
			}
		}
	}
	var c agent.Client
	for limit, want := range map[int]int{1: 1, 4: 4, 9: 9, 1000: 9} {
		p, err := c.Pending(t.Context(), strings.TrimPrefix(h.URL, "http://"), "n/p/0",
			agent.PendingRequest{Limit: limit}, agent.Keys{key})
		if err != nil || len(p.Entries) != want {
			t.Fatalf("limit %d: %d entries, %v", limit, len(p.Entries), err)
		}
		for i, e := range p.Entries {
			if e.ID != numberedID(10*(i+1)) {
				t.Errorf("limit %d: entry %d is %s", limit, i, e.ID)
			}
		}
		if p.More != (limit < 100) {
			t.Errorf("limit %d: more: %t", limit, p.More)
		}
	}
}

// TestStatusDuringCount: a status does not wait until a large index is counted, and never reports
// that no heals are pending meanwhile.
func TestStatusDuringCount(t *testing.T) {
	_, s := newServer(t)
	backlog := func() int {
		t.Helper()
		w := httptest.NewRecorder()
		begin := time.Now()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, agent.PathStatus, http.NoBody))
		var st agent.Status
		if err := json.NewDecoder(io.LimitReader(w.Body, 1<<20)).Decode(&st); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > peerLimit {
			t.Errorf("the status took %s", took)
		}
		return st.Backlog
	}
	if n := backlog(); n != 2 {
		t.Errorf("backlog %d, want 2", n)
	}
	for former, want := range map[int]int{0: 1, 7: 7} {
		s.probes = newProbes(0, 0, 0)
		s.probes.xattrop.value, s.probes.xattrop.running = former, make(chan struct{}) // is being counted
		if n := backlog(); n != want {
			t.Errorf("while a count runs after one of %d: backlog %d, want %d", former, n, want)
		}
	}
	s.probes = newProbes(0, 0, 0)
	if err := os.RemoveAll(filepath.Join(s.Directory, indices)); err != nil {
		t.Fatal(err)
	}
	if n := backlog(); n != 0 {
		t.Errorf("without an index: backlog %d", n)
	}
	if err := os.MkdirAll(filepath.Join(s.Directory, indices), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Directory, indices, "xattrop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := backlog(); n != 1 {
		t.Errorf("with an unreadable index: backlog %d, want 1", n)
	}
}

// TestLoopsDoNotWalk: a caller in a loop reads the brick no more often than one that asks
// sometimes.
func TestLoopsDoNotWalk(t *testing.T) {
	h, s := newServer(t)
	s.probes = newProbes(time.Hour, time.Hour, 0)
	file := filepath.Join(s.Directory, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	handler := s.Handler()
	texts := map[string]string{}
	for round := range 3 {
		for _, path := range []string{agent.PathStatus, "/metrics"} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
			lines := strings.Split(w.Body.String(), "\n")
			text := strings.Join(slices.DeleteFunc(lines, func(line string) bool {
				return strings.HasPrefix(line, "atoll_brick_free") // of the machine
			}), "\n")
			if path == agent.PathStatus {
				text, _, _ = strings.Cut(text, `"sizeBytes"`)
			}
			if round > 0 && text != texts[path] {
				t.Errorf("%s has changed:\n%s\n%s", path, texts[path], text)
			}
			texts[path] = text
		}
		// A walk would notice this.
		s.mu.Lock()
		s.volumes, s.derived = append(s.volumes, volumeUsage{}), time.Now()
		s.mu.Unlock()
		if err := os.RemoveAll(filepath.Join(s.Directory, indices)); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(texts[agent.PathStatus], `"backlog":2`) || !strings.Contains(texts["/metrics"],
		`index="xattrop",namespace="n",pool="p"} 2`) {
		t.Errorf("%v", texts)
	}
	h.Close()
}
