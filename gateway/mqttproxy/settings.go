package mqttproxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// Settings say which brokers there are and what they see of a device.
type Settings struct {
	Addresses    []string     // mqtt://host:port or mqtts://host:port; without port 1883 and 8883
	CA           string       // file of the certificates that brokers are trusted by; empty: the system's
	Certificate  string       // file of the certificate that brokers are shown; empty: none
	Key          string       // file of its key
	Prefix       string       // of all topics at the broker, which devices do not see; empty, or it ends with "/"
	PassThrough  bool         // the broker gets the device's own user name and password
	User         string       // that the broker gets; {principal} stands for the caller's id; empty: none
	PasswordFile string       // of the password that the broker gets; empty: none
	ClientID     string       // that the broker sees: {client-id} and {principal} stand for the device's; empty: {client-id}
	Version      mqtt.Version // that brokers speak with devices of version 5; 0: found out
	Uplinks      int          // connections that carry all devices together; 0: each device has one of its own
}

const (
	placeClientID  = "{client-id}"
	placePrincipal = "{principal}"
	placeUplink    = "{uplink}"
	maxPassword    = 64 << 10
)

// MaxAddresses bounds the brokers behind one proxy, MaxUplinks its uplinks.
const (
	MaxAddresses = 64
	MaxUplinks   = 64
)

// Check says what is wrong with settings, without reading files.
func (s *Settings) Check() error {
	if len(s.Addresses) == 0 || len(s.Addresses) > MaxAddresses {
		return fmt.Errorf("addresses: name 1 to %d, such as mqtt://broker.example:1883", MaxAddresses)
	}
	seen := map[string]bool{}
	for _, text := range s.Addresses {
		address, secure, err := parseAddress(text)
		switch {
		case err != nil:
			return err
		case seen[address]:
			return fmt.Errorf("addresses: %q is there twice", text)
		case !secure && s.Certificate != "":
			return fmt.Errorf("client-certificate: %q is not called over TLS: write mqtts://, or leave the certificate out", text)
		}
		seen[address] = true
	}
	switch {
	case (s.Certificate == "") != (s.Key == ""):
		return errors.New("client-certificate: it needs client-key, and the other way round")
	case s.Prefix != "" && (!strings.HasSuffix(s.Prefix, "/") || !mqtt.ValidTopic([]byte(s.Prefix)) || strings.HasPrefix(s.Prefix, "$") || len(s.Prefix) > fieldgate.MaxPathBytes):
		return fmt.Errorf(`prefix: %q is none: write levels that end with "/" and hold neither + nor #, such as plant1/`, s.Prefix)
	case s.PassThrough && (s.User != "" || s.PasswordFile != ""):
		return errors.New("credentials: write pass-through, or a user with a password-file, not both")
	case s.Uplinks < 0 || s.Uplinks > MaxUplinks:
		return fmt.Errorf("uplinks: write 0 to %d; without it each device has a connection of its own", MaxUplinks)
	case s.Uplinks > 0 && s.PassThrough:
		return errors.New("credentials: uplinks carry many devices: write a user with a password-file, not pass-through")
	case s.Uplinks > 0 && strings.Contains(s.User, placePrincipal):
		return errors.New("credentials: user: uplinks carry many devices: leave {principal} out")
	case s.Uplinks > 0 && s.ClientID != "" && (!strings.Contains(s.ClientID, placeUplink) || strings.Contains(s.ClientID, placeClientID) || strings.Contains(s.ClientID, placePrincipal)):
		return fmt.Errorf("client-id: %q does not tell uplinks apart: write a text with %s in it, such as gateway-%s", s.ClientID, placeUplink, placeUplink)
	case s.Uplinks == 0 && s.ClientID != "" && !strings.Contains(s.ClientID, placeClientID):
		return fmt.Errorf("client-id: %q is the same for several devices: write a text with %s in it", s.ClientID, placeClientID)
	case s.Version != 0 && s.Version != mqtt.V311 && s.Version != mqtt.V5:
		return errors.New("version: write auto, 5 or 3.1.1")
	}
	return nil
}

func parseAddress(text string) (address string, secure bool, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Scheme != "mqtt" && u.Scheme != "mqtts" {
		return "", false, fmt.Errorf("addresses: %q is none: write mqtt://HOST:PORT or mqtts://HOST:PORT", text)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"mqtt": "1883", "mqtts": "8883"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port), u.Scheme == "mqtts", nil
}

// tls is how brokers are called at mqtts addresses.
func (s *Settings) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		text, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("mqtt.proxy.ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("mqtt.proxy.ca: no certificate in %s", s.CA)
		}
	}
	if s.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
		if err != nil {
			return nil, fmt.Errorf("mqtt.proxy.client-certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// password is what the password file holds, without the line's end.
func (s *Settings) password() ([]byte, error) {
	if s.PasswordFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("mqtt.proxy.credentials.password-file: %w", err)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 || len(text) >= maxPassword {
		return nil, fmt.Errorf("mqtt.proxy.credentials.password-file: no password in %s", s.PasswordFile)
	}
	return text, nil
}

// mapClient is the client identifier that the broker sees.
func (s *Settings) mapClient(client string, caller *pipeline.Caller) string {
	if s.ClientID == "" {
		return client
	}
	return strings.NewReplacer(placeClientID, client, placePrincipal, caller.ID).Replace(s.ClientID)
}

// tellsApart says whether the broker sees who a client is, not only what it calls itself.
func (s *Settings) tellsApart() bool { return strings.Contains(s.ClientID, placePrincipal) }
