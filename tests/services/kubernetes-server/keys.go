package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// For the controllers and for the tests.
const kubeconfigFile = "kubeconfig"

func certificate(name string) string { return "keys/" + name + ".crt" }
func key(name string) string         { return "keys/" + name + ".key" }

// ensureKeys makes an authority to be thrown away, certificates of the server and of an administrator, and the
// pair that signs accounts' tokens, unless they are there; and the kubeconfig.
func ensureKeys(server string) error {
	if _, err := os.Stat("keys/complete"); err != nil {
		if err := os.MkdirAll("keys", 0o700); err != nil {
			return err
		}
		if err := makeKeys(); err != nil {
			return err
		}
		if err := os.WriteFile("keys/complete", nil, 0o600); err != nil {
			return err
		}
	}
	config, err := kubeconfig(server)
	if err != nil {
		return err
	}
	return os.WriteFile(kubeconfigFile, config, 0o600)
}

func makeKeys() error {
	authority, signer, err := issue("authority", x509.Certificate{
		Subject: pkix.Name{CommonName: "tests"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, nil, nil)
	if err != nil {
		return err
	}
	for name, template := range map[string]x509.Certificate{
		"server": {
			Subject:     pkix.Name{CommonName: "kube-apiserver"},
			DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		},
		"admin": {
			Subject:  pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		},
	} {
		if _, _, err := issue(name, template, authority, signer); err != nil {
			return err
		}
	}
	accounts, err := newKey("accounts")
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(accounts.Public())
	if err != nil {
		return err
	}
	return writePEM(key("accounts.public"), "PUBLIC KEY", public)
}

func newKey(name string) (*ecdsa.PrivateKey, error) {
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// SEC 1, which kube-controller-manager and rustls both read.
	bytes, err := x509.MarshalECPrivateKey(made)
	if err != nil {
		return nil, err
	}
	return made, writePEM(key(name), "EC PRIVATE KEY", bytes)
}

// issue makes a key and a certificate for it; without a parent it signs itself.
func issue(name string, template x509.Certificate, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	own, err := newKey(name)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(10, 0, 0)
	if parent == nil {
		parent, signer = &template, own
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, own.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	return made, own, writePEM(certificate(name), "CERTIFICATE", der)
}

func writePEM(file, kind string, bytes []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600)
}

func kubeconfig(server string) ([]byte, error) {
	var encoded [3]string
	for i, file := range []string{certificate("authority"), certificate("admin"), key("admin")} {
		bytes, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		encoded[i] = base64.StdEncoding.EncodeToString(bytes)
	}
	return []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: tests
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: admin
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: tests
  context: {cluster: tests, user: admin, namespace: default}
current-context: tests
`, server, encoded[0], encoded[1], encoded[2])), nil
}
