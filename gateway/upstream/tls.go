package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/coapsocket"
)

// tlsCheckEvery is how often the files of an upstream's TLS settings are looked at, with a connection that is opened.
const tlsCheckEvery = time.Second

// sessionsKept bounds the TLS sessions kept for resumption, for each upstream.
const sessionsKept = 64

// clientTLS makes the TLS settings of connections to an upstream. The certificate of whoever answers is always verified: by the
// system's roots, or by those of the settings alone. Files that change take effect with the next connection; as long as they cannot
// be read, or do not fit each other, the last ones that did are used.
type clientTLS struct {
	settings fieldgate.UpstreamTLS

	mu      sync.Mutex
	loaded  *tls.Config
	psk     *coapsocket.PSK // nil: certificates
	checked time.Time
	files   string // names, sizes and times of change of the files in loaded
	failure error  // why newer files are not used
}

func newClientTLS(settings *fieldgate.UpstreamTLS) (*clientTLS, error) {
	t := new(clientTLS)
	if settings != nil {
		t.settings = *settings
	}
	var err error
	if t.files, err = t.state(); err == nil {
		t.loaded, t.psk, err = t.load()
	}
	return t, err
}

// config is the configuration of a connection that is opened now, to a host of that name.
func (t *clientTLS) config(now time.Time, host, protocol string) *tls.Config {
	config := t.current(now).Clone()
	config.NextProtos = []string{protocol}
	if config.ServerName = t.settings.ServerName; config.ServerName == "" {
		config.ServerName = host
	}
	return config
}

func (t *clientTLS) current(now time.Time) *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files == "" || now.Sub(t.checked) < tlsCheckEvery {
		return t.loaded
	}
	t.checked = now
	files, err := t.state()
	if err == nil && files != t.files {
		var config *tls.Config
		var key *coapsocket.PSK
		if config, key, err = t.load(); err == nil {
			t.loaded, t.psk, t.files = config, key, files
		}
	}
	t.failure = err
	return t.loaded
}

// problem says why files that changed are not used; empty: they are.
func (t *clientTLS) problem() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failure == nil {
		return ""
	}
	return "TLS files: " + t.failure.Error()
}

// state changes whenever a file does.
func (t *clientTLS) state() (string, error) {
	state := ""
	for _, file := range [...]string{t.settings.CAFile, t.settings.CertFile, t.settings.KeyFile, t.settings.PSKFile} {
		if file == "" {
			continue
		}
		info, err := os.Stat(file)
		if err != nil {
			return "", err
		}
		state += fmt.Sprint(file, info.Size(), info.ModTime().UnixNano())
	}
	return state, nil
}

// preShared is the key in force; nil: there are certificates.
func (t *clientTLS) preShared() *coapsocket.PSK {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.psk
}

func (t *clientTLS) load() (*tls.Config, *coapsocket.PSK, error) {
	if t.settings.PSKFile != "" {
		return pskConfig(&t.settings)
	}
	config, err := t.loadCertificates()
	return config, nil, err
}

func (t *clientTLS) loadCertificates() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(sessionsKept)}
	if t.settings.CAFile != "" {
		pem, err := os.ReadFile(t.settings.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", t.settings.CAFile)
		}
	}
	switch {
	case t.settings.CertFile != "" && t.settings.KeyFile != "":
		certificate, err := tls.LoadX509KeyPair(t.settings.CertFile, t.settings.KeyFile)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	case t.settings.CertFile != "" || t.settings.KeyFile != "":
		return nil, errors.New("a client certificate needs both its file and that of its key")
	}
	return config, nil
}
