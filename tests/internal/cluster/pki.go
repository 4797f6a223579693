package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// pki is the cluster's certificate authority and the certificates that it signed, as files in
// a directory: NAME.crt and NAME.key for each certificate.
type pki struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// validity is longer than any of these clusters runs.
const validity = 30 * 24 * time.Hour

func newPKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &pki{dir: dir}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p.key = key
	p.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "atoll-test-cluster"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if err := p.write("ca", p.cert, key); err != nil {
		return nil, err
	}
	return p, p.write("service-account", p.cert, key)
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// sign creates a certificate for a user in groups, or for a server with names and addresses.
func (p *pki) sign(file, user string, groups []string, names ...string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: user, Organization: groups},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	return p.write(file, c, key)
}

func (p *pki) write(name string, c *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, c, p.cert, key.Public(), p.key)
	if err != nil {
		return fmt.Errorf("signing %s: %w", name, err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		0o600); err != nil {
		return err
	}
	return os.WriteFile(p.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		0o600)
}

// kubeconfig creates a certificate for a user, and NAME.kubeconfig with it.
func (p *pki) kubeconfig(file, server, user string, groups ...string) error {
	if err := p.sign(file, user, groups); err != nil {
		return err
	}
	var data [3][]byte
	for i, name := range []string{"ca.crt", file + ".crt", file + ".key"} {
		b, err := os.ReadFile(p.path(name))
		if err != nil {
			return err
		}
		data[i] = b
	}
	c := api.NewConfig()
	c.Clusters["atoll"] = &api.Cluster{Server: server, CertificateAuthorityData: data[0]}
	c.AuthInfos[user] = &api.AuthInfo{ClientCertificateData: data[1], ClientKeyData: data[2]}
	c.Contexts["atoll"] = &api.Context{Cluster: "atoll", AuthInfo: user}
	c.CurrentContext = "atoll"
	return clientcmd.WriteToFile(*c, p.path(file+".kubeconfig"))
}
