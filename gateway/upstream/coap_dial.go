package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"fieldgate"
	"fieldgate/gateway/coapsocket"
	"fieldgate/protocol/coap"
)

// dialCoAP opens a socket to the address, with a DTLS session on it where the scheme says so.
func (a *address) dialCoAP(ctx context.Context) (net.Conn, error) {
	if a.tls == nil {
		return new(net.Dialer).DialContext(ctx, "udp", a.dial) // connected, so that a refusal of the network is heard
	}
	config := a.tls.config(time.Now(), a.name, coapsocket.Subprotocol)
	return coapsocket.DialDTLS(ctx, a.dial, a.tls.preShared(), config)
}

// dialCoAPStream opens a connection to the address, with TLS on it where the scheme says so, and greets (RFC 8323 §3.3).
func (a *address) dialCoAPStream(ctx context.Context) (*coap.Client, error) {
	config := coapsocket.Config{Stream: coap.StreamConfig{Config: coap.Config{NStart: a.maxOpen, MaxBody: MaxBufferedAnswer}}}
	if a.tls != nil {
		config.TLS = a.tls.config(time.Now(), a.name, coapsocket.Subprotocol)
		config.TLS.ClientSessionCache = nil // connections are few, and libcoap's server fails when one that showed a certificate is resumed
	}
	return coapsocket.Dial(ctx, string(a.scheme), a.dial, config)
}

// Bounds of a key: shorter ones can be guessed from one handshake that somebody listened to.
const (
	minPSK      = 16
	maxPSK      = 64
	maxIdentity = 128 // RFC 4279 §5.3
)

// readPSK reads a file with one line IDENTITY:KEY, the key in hexadecimal digits.
func readPSK(file string) (*coapsocket.PSK, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	line, rest, _ := bytes.Cut(bytes.TrimSpace(content), []byte{'\n'})
	colon := bytes.LastIndexByte(line, ':')
	if colon < 1 || colon > maxIdentity || len(rest) > 0 {
		return nil, fmt.Errorf("%s has no line IDENTITY:KEY, or more than one", file)
	}
	k := &coapsocket.PSK{Identity: bytes.Clone(line[:colon])}
	if k.Key, err = hex.DecodeString(string(bytes.TrimSpace(line[colon+1:]))); err != nil {
		return nil, fmt.Errorf("%s: the key is not written in hexadecimal digits", file)
	}
	if len(k.Key) < minPSK || len(k.Key) > maxPSK {
		return nil, fmt.Errorf("%s: the key has %d bytes; write one of %d to %d", file, len(k.Key), minPSK, maxPSK)
	}
	return k, nil
}

// pskConfig is the configuration of an upstream with a pre-shared key, for everything that does not speak DTLS.
func pskConfig(settings *fieldgate.UpstreamTLS) (*tls.Config, *coapsocket.PSK, error) {
	if settings.CAFile != "" || settings.CertFile != "" || settings.ServerName != "" {
		return nil, nil, errors.New("a pre-shared key takes the place of certificates: leave out one or the other")
	}
	key, err := readPSK(settings.PSKFile)
	return &tls.Config{MinVersion: tls.VersionTLS12}, key, err
}
