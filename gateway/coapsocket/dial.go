package coapsocket

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"fieldgate/gateway/websocket"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/h1"
)

// ErrNoCoAP says that a server which answers does not speak CoAP there.
var ErrNoCoAP = errors.New("coap: the server does not speak CoAP there")

// Config says how Dial connects. The zero value does.
type Config struct {
	TLS     *tls.Config // of coaps+tcp and coaps+ws; nil: the system's authorities. Without a ServerName it is the host of the address
	Stream  coap.StreamConfig
	Handler coap.Handler // of requests of the server; nil: they are answered 5.01
	Logger  *slog.Logger // nil: nothing is logged
}

// Dial connects to an address, as host:port, in the way that the scheme of a URI says, which is one of coap+tcp, coaps+tcp, coap+ws and
// coaps+ws (RFC 8323 section 8). The context is for connecting only.
func Dial(ctx context.Context, scheme, address string, config Config) (*coap.Client, error) {
	secure, over := strings.HasPrefix(scheme, "coaps+"), strings.TrimPrefix(strings.TrimPrefix(scheme, "coaps+"), "coap+")
	if over != "tcp" && over != "ws" || over == scheme {
		return nil, fmt.Errorf("coap: %q is no scheme of CoAP over connections", scheme)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	opened, err := open(ctx, conn, secure, over == "ws", address, &config)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return coap.NewClient(ctx, opened, config.Stream, config.Handler, config.Logger)
}

// open does the handshakes that come before CoAP.
func open(ctx context.Context, conn net.Conn, secure, webSocket bool, address string, config *Config) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if secure {
		settings := &tls.Config{}
		if config.TLS != nil {
			settings = config.TLS.Clone()
		}
		if settings.ServerName == "" {
			settings.ServerName = host
		}
		settings.NextProtos = []string{Subprotocol} // which is also what ALPN calls it (RFC 8323 §8.2)
		if webSocket {
			settings.NextProtos = []string{"http/1.1"}
		}
		secured := tls.Client(conn, settings)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		if !webSocket && port != "5684" && secured.ConnectionState().NegotiatedProtocol != Subprotocol {
			return nil, ErrNoCoAP // RFC 8323 §8.2: only at its own port is it understood
		}
		conn = secured
	}
	if webSocket {
		return openWebSocket(conn, address, config)
	}
	return conn, nil
}

// openWebSocket does a client's opening handshake (RFC 6455 §4.1).
func openWebSocket(conn net.Conn, address string, config *Config) (net.Conn, error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	request, err := http.NewRequest(http.MethodGet, "http://"+address+WellKnown, nil)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": key, "Sec-WebSocket-Protocol": Subprotocol} {
		request.Header.Set(name, value)
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(response.Header.Get("Upgrade"), "websocket") ||
		response.Header.Get("Sec-WebSocket-Accept") != h1.WebSocketAccept(key) || response.Header.Get("Sec-WebSocket-Protocol") != Subprotocol {
		return nil, fmt.Errorf("%w: it answers a WebSocket's opening handshake with %s", ErrNoCoAP, response.Status)
	}
	early, _ := reader.Peek(reader.Buffered())
	limit := config.Stream.MaxMessage
	if limit == 0 {
		limit = coap.DefaultMaxMessage
	}
	return &Conn{Conn: websocket.Make(conn, true, int64(limit), early)}, nil
}
