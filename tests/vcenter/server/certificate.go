package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate is the server's, signed by an authority made for this run.
type Certificate struct {
	TLS        tls.Certificate
	CAFile     string
	Thumbprint string // SHA-256, hexadecimal
}

// newCertificate makes an authority and a certificate: good, expired, or for a name that is not this host's.
func newCertificate(folder, kind string) (*Certificate, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	switch kind {
	case "expired":
		server.NotAfter = now.Add(-time.Hour)
	case "wrong-name":
		server.Subject.CommonName, server.DNSNames, server.IPAddresses = "vcenter.example.com", []string{"vcenter.example.com"}, nil
	}
	authorityRaw, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return nil, err
	}
	if authority, err = x509.ParseCertificate(authorityRaw); err != nil {
		return nil, err
	}
	raw, err := x509.CreateCertificate(rand.Reader, server, authority, &key.PublicKey, authorityKey)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityRaw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	chain := tls.Certificate{Certificate: [][]byte{raw, authorityRaw}, PrivateKey: key}
	return &Certificate{TLS: chain, CAFile: file, Thumbprint: hex.EncodeToString(sum[:])}, nil
}
