package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"fieldgate/gateway/coapsocket"
)

// coapSecurity is by what both sides of a DTLS session or TLS connection show who they are.
type coapSecurity struct {
	pskIdentity, pskFile, certificate, key, ca string
}

func (s *coapSecurity) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.pskIdentity, "psk-identity", "", "by which the gateway knows the pre-shared key of coaps://, mostly the device's id")
	flags.StringVar(&s.pskFile, "psk-file", "", "file with that key in hexadecimal, for its owner only")
	flags.StringVar(&s.certificate, "certificate", "", "PEM file of the certificate that shows who the device or app is, over DTLS or TLS")
	flags.StringVar(&s.key, "key", "", "PEM file of its key, for its owner only")
	flags.StringVar(&s.ca, "ca", "", "PEM file of the authority of the gateway's certificate, where the system does not know it")
}

func (s *coapSecurity) given() bool { return *s != coapSecurity{} }

// check refuses what does not fit together, or not the scheme.
func (s *coapSecurity) check(scheme string) error {
	psk := s.pskIdentity != "" || s.pskFile != ""
	switch {
	case (s.pskIdentity == "") != (s.pskFile == ""):
		return usagef("--psk-identity and --psk-file go together: \"fieldgate device psk\" gives a device both")
	case (s.certificate == "") != (s.key == ""):
		return usagef("--certificate and --key go together")
	case psk && (s.certificate != "" || s.ca != ""):
		return usagef("a pre-shared key takes the place of certificates: leave out --psk-file, or --certificate, --key and --ca")
	}
	for _, known := range coapSchemes {
		switch {
		case known.name != scheme:
			continue
		case s.given() && !strings.HasPrefix(scheme, "coaps"):
			return usagef("%s:// is not encrypted: write %s:// with a key, a certificate or --ca", scheme, "coaps"+strings.TrimPrefix(scheme, "coap"))
		case psk && scheme != "coaps":
			return usagef("%s:// has certificates, no pre-shared keys: those are for coaps://", scheme)
		}
		return nil
	}
	return usagef("%q is no scheme of CoAP that this command speaks: it is %s", scheme, coapSchemeNames())
}

// load reads the files. Without a key it gives nil for it.
func (s *coapSecurity) load() (*coapsocket.PSK, *tls.Config, error) {
	if s.pskFile != "" {
		digits, err := secretFile(s.pskFile)
		if err != nil {
			return nil, nil, fmt.Errorf("--psk-file: %w", err)
		}
		key, err := hex.DecodeString(digits)
		if err != nil || len(key) == 0 {
			return nil, nil, fmt.Errorf("--psk-file: %s does not hold a key in hexadecimal digits, two for each byte", s.pskFile)
		}
		return &coapsocket.PSK{Identity: []byte(s.pskIdentity), Key: key}, nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if config.RootCAs, err = readAuthorities(s.ca); err != nil {
		return nil, nil, err
	}
	if s.certificate != "" {
		certificate, err := readOwnCertificate(s.certificate, s.key)
		if err != nil {
			return nil, nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return nil, config, nil
}

// readAuthorities reads those of --ca; nil: the system's.
func readAuthorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", path)
	}
	return pool, nil
}

func readOwnCertificate(path, keyPath string) (tls.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("--certificate: %w", err)
	}
	key, err := secretFile(keyPath)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("--key: %w", err)
	}
	certificate, err := tls.X509KeyPair(text, []byte(key))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("--certificate %s with --key %s: %w", path, keyPath, err)
	}
	return certificate, nil
}
