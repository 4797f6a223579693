package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSharedValue: callers at the same time cause one computation, and its result is kept.
func TestSharedValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shared[int]{least: 2 * time.Second, times: 2, limit: time.Minute}
		computed, took := 0, time.Second
		var failure error
		compute := func(context.Context) (int, error) {
			time.Sleep(took)
			computed++
			return computed, failure
		}
		want := func(what string, n int, err error) {
			t.Helper()
			var wait sync.WaitGroup
			for range 100 {
				wait.Go(func() {
					if got, failed := s.get(t.Context(), compute); got != n || !errors.Is(failed, err) {
						t.Errorf("%s: %d, %v; want %d, %v", what, got, failed, n, err)
					}
				})
			}
			wait.Wait()
		}
		want("first", 1, nil)
		want("kept", 1, nil)
		time.Sleep(time.Second)
		want("kept for a second", 1, nil)
		time.Sleep(time.Second + 1)
		took, failure = 10*time.Second, errors.New("disk")
		want("computed again", 2, failure)
		time.Sleep(19 * time.Second)
		want("kept as long as it took", 2, failure)
		time.Sleep(time.Second + 1)
		took, failure = 0, nil
		want("computed after a failure", 3, nil)
	})
}

// TestCallersOfSharedValueGiveUp: a caller that gives up gets the former value, and ends nothing
// for the others; a computation ends at its own limit.
func TestCallersOfSharedValueGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shared[int]{limit: 10 * time.Second}
		if n, err := s.get(t.Context(), func(context.Context) (int, error) { return 7, nil }); n != 7 || err != nil {
			t.Fatal(n, err)
		}
		compute := func(ctx context.Context) (int, error) {
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(3 * time.Second):
				return 8, nil
			}
		}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
			if n, err := s.get(ctx, compute); n != 7 || !errors.Is(err, errUnfinished) {
				t.Errorf("gave up: %d, %v", n, err)
			}
			cancel()
		}
		if n, err := s.get(t.Context(), compute); n != 8 || err != nil {
			t.Errorf("waited: %d, %v", n, err)
		}
		time.Sleep(time.Nanosecond)
		stuck := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
		begin := time.Now()
		if _, err := s.get(t.Context(), stuck); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(begin) != s.limit {
			t.Errorf("ended after %s: %v", time.Since(begin), err)
		}
	})
}

// TestSharedPage: many callers get one page.
func TestSharedPage(t *testing.T) {
	made := 0
	kept := shared[page]{least: time.Hour, limit: time.Minute}
	h := sharedPage(&kept, "/p", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		made++
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %q %d", r.URL.Path, r.Header.Get("Accept-Encoding"), made)
	}))
	for range 3 {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/other", http.NoBody)
		r.Header.Set("Accept-Encoding", "gzip")
		h(w, r)
		if w.Code != http.StatusTeapot || w.Header().Get("Content-Type") != "text/x" || w.Body.String() != `/p "" 1` {
			t.Errorf("%d, %v, %s", w.Code, w.Header(), w.Body)
		}
	}
}
