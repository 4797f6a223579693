// Package apiserver applies rendered objects to a real kube-apiserver with a real
// etcd behind it. It is a separate module: the programs do not depend on Kubernetes'
// servers. 'make test-apiserver' builds the server and runs the tests.
package apiserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/ports"
)

// token is the token of the tests' only user, an administrator.
const token = "atoll-test-token"

// startLimit is the timeout for the servers to answer.
const startLimit = await.Limit

// parallel are the tests that run beside others.
var parallel sync.Map

// beside runs a test beside others, unless it measures. A test may call it again.
func beside(t *testing.T) {
	if _, again := parallel.LoadOrStore(t, true); !again && !*full {
		t.Parallel()
	}
}

// start runs etcd and kube-apiserver on free ports of 127.0.0.1 until the test ends. The test runs
// beside others.
func start(t *testing.T, more ...string) *rest.Config {
	t.Helper()
	return startServers(t, more...).config
}

// servers are an etcd and a kube-apiserver that a test can stop and restart.
type servers struct {
	t         *testing.T
	dir       string
	commands  map[string][]string
	processes map[string]*exec.Cmd
	config    *rest.Config
}

func startServers(t *testing.T, more ...string) *servers {
	t.Helper()
	beside(t)
	server := os.Getenv("ATOLL_KUBE_APISERVER")
	if server == "" {
		t.Skip("no kube-apiserver: run make test-apiserver, which builds it")
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("etcd is not installed: run make deps as root")
	}
	dir := t.TempDir()
	client, peer, secure := port(t), port(t), port(t)
	s := &servers{t: t, dir: dir, commands: map[string][]string{}, processes: map[string]*exec.Cmd{}}
	s.run("etcd", etcd, "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", url("http", client), "--advertise-client-urls", url("http", client),
		"--listen-peer-urls", url("http", peer), "--initial-advertise-peer-urls", url("http", peer),
		"--initial-cluster", "default="+url("http", peer))
	key := filepath.Join(dir, "key.pem")
	writeKey(t, key)
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",admin,1,system:masters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("kube-apiserver", append([]string{
		server,
		"--etcd-servers", url("http", client), "--bind-address", "127.0.0.1",
		"--secure-port", strconv.Itoa(secure), "--cert-dir", filepath.Join(dir, "certs"), "--token-auth-file", tokens,
		"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16", "--allow-privileged=true",
		"--service-account-issuer", "https://atoll.test", "--service-account-key-file", key,
		"--service-account-signing-key-file", key,
		"--disable-admission-plugins", "ServiceAccount", // no controller creates the accounts here
	}, more...)...)
	s.config = &rest.Config{
		Host: url("https", secure), BearerToken: token,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: 1000, Burst: 1000,
	}
	waitReady(t, s.config, dir)
	return s
}

// run starts a server with a log, and ends it with the test.
func (s *servers) run(name string, command ...string) {
	s.t.Helper()
	s.commands[name] = command
	s.launch(name)
	s.t.Cleanup(func() { s.kill(name) })
}

// kill kills a server.
func (s *servers) kill(name string) {
	_ = s.processes[name].Process.Kill() // it may have ended
	_ = s.processes[name].Wait()
}

// launch starts a server, or restarts it.
func (s *servers) launch(name string) {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(s.commands[name][0], s.commands[name][1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.processes[name] = cmd
}

func url(scheme string, port int) string { return fmt.Sprintf("%s://127.0.0.1:%d", scheme, port) }

func port(t *testing.T) int {
	t.Helper()
	free, err := ports.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return free
}

func writeKey(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		0o600); err != nil {
		t.Fatal(err)
	}
}

// waitReady polls /readyz, which succeeds once the built-in objects exist too.
func waitReady(t *testing.T, config *rest.Config, dir string) {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		if _, err = d.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(dir, "kube-apiserver.log"))
			t.Fatalf("kube-apiserver does not answer: %v\n%s", err, log[max(0, len(log)-3000):])
		case <-time.After(100 * time.Millisecond):
		}
	}
}
