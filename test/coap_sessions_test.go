package test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pion "github.com/pion/dtls/v3"
	godtls "github.com/plgd-dev/go-coap/v3/dtls"
	gocoap "github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/mux"
	"github.com/plgd-dev/go-coap/v3/options"
	gotcp "github.com/plgd-dev/go-coap/v3/tcp"

	"fieldgate/gateway/coapsocket"
	"fieldgate/protocol/coap"
	"fieldgate/test/certtest"
	"fieldgate/test/port"
)

// sessionLamp is a lamp that is asked over the session or connection that it comes by.
type sessionLamp struct {
	id   string
	dial func(t *testing.T, lamp *sessionLamp) lampSession

	mu    sync.Mutex
	notes []string
}

// lampSession is one session of a lamp.
type lampSession interface {
	// post sends a request and gives the code of the answer, as 2.01.
	post(t *testing.T, path, query string) string
	close()
}

// clock is more than fits one message over UDP.
var clock = strings.Repeat("It is late. ", 500)

func (l *sessionLamp) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, text)
}

func (l *sessionLamp) seen() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.notes, ", ")
}

// goCoAPSession is a session of go-coap's.
type goCoAPSession struct {
	mux.Conn
	credential string // empty: the session has shown it
}

func (s goCoAPSession) post(t *testing.T, path, query string) string {
	t.Helper()
	more := []gocoap.Option{{ID: gocoap.URIQuery, Value: []byte(query)}}
	if s.credential != "" {
		more = append(more, gocoap.Option{ID: 65002, Value: []byte(s.credential)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer, err := s.Conn.Post(ctx, path, gocoap.AppLinkFormat, nil, more...)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d.%02d", answer.Code()>>5, answer.Code()&31)
}

func (s goCoAPSession) close() { s.Conn.Close() }

// handler serves what go-coap is asked.
func (l *sessionLamp) handler(w mux.ResponseWriter, r *mux.Message) {
	path, _ := r.Path()
	switch path {
	case "/time":
		w.SetResponse(codes.Content, gocoap.TextPlain, strings.NewReader(clock))
	case "/example_data":
		body, _ := r.ReadBody()
		l.note(string(body))
		w.SetResponse(codes.Changed, gocoap.TextPlain, nil)
	default:
		w.SetResponse(codes.NotFound, gocoap.TextPlain, nil)
	}
}

// ownSession is a session of the project's own client, which is the only one with WebSockets.
type ownSession struct {
	*coap.Client
	credential string
}

func (s ownSession) post(t *testing.T, path, query string) string {
	t.Helper()
	call := &coap.Call{Code: coap.POST}
	for segment := range strings.SplitSeq(path[1:], "/") {
		call.Options.AddString(coap.URIPath, segment)
	}
	call.Options.AddString(coap.URIQuery, query)
	call.Options.AddString(65002, s.credential)
	answer, err := s.Do(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Code.String()
}

func (s ownSession) close() { s.Close() }

func (l *sessionLamp) serve(request *coap.Request, response *coap.Response) func(context.Context) {
	switch request.Path() {
	case "/time":
		response.Code, response.Body = coap.Content, []byte(clock)
		response.Options.AddUint(coap.ContentFormat, coap.TextPlain)
	case "/example_data":
		l.note(string(request.Body))
		response.Code = coap.Changed
	default:
		response.Code = coap.NotFound
	}
	return nil
}

// nat forwards the datagrams of one client, and gives it another address when it is told to.
type nat struct {
	inside *net.UDPConn
	to     *net.UDPAddr

	mu      sync.Mutex
	client  *net.UDPAddr
	outside *net.UDPConn
}

func newNAT(t *testing.T, to string) *nat {
	t.Helper()
	address, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n := &nat{inside: inside, to: address}
	n.rebind(t)
	go func() {
		buffer := make([]byte, 2048)
		for {
			length, from, err := inside.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.client = from
			n.outside.WriteToUDP(buffer[:length], n.to)
			n.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		inside.Close()
		n.mu.Lock()
		n.outside.Close()
		n.mu.Unlock()
	})
	return n
}

// rebind has the client come from another port from now on; nothing comes back by the one before.
func (n *nat) rebind(t *testing.T) {
	t.Helper()
	outside, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	if n.outside != nil {
		n.outside.Close()
	}
	n.outside = outside
	n.mu.Unlock()
	go func() {
		buffer := make([]byte, 2048)
		for {
			length, _, err := outside.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			n.mu.Lock()
			client := n.client
			n.mu.Unlock()
			n.inside.WriteToUDP(buffer[:length], client)
		}
	}()
}

// Devices that register over DTLS, TCP, TLS and WebSocket are asked over the session that they came by last, and have what waited when they come
// again. Over DTLS the session, with its Connection ID, goes on when the address changes (RFC 9146).
func TestDevicesOverSessions(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newNode(t, nil)
	authority := certtest.NewAuthority(t)
	certtest.Write(t, authority.Issue(t, -time.Hour, time.Hour, "127.0.0.1"), filepath.Join(n.folder, "own.pem"), filepath.Join(n.folder, "own-key.pem"))
	coaps, tcp, secureTCP := port.Free(t), port.Free(t), port.Free(t)
	settings, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(string(settings), "listen: {", fmt.Sprintf("listen: {coaps: '%s', coap-tcp: '%s', coaps-tcp: '%s', ", coaps, tcp, secureTCP), 1)
	if err := os.WriteFile(n.config, []byte(with), 0o600); err != nil {
		t.Fatal(err)
	}
	n.extend("coap: {resource-directory: on}\ntls: {certificates: [{certificate: own.pem, key: own-key.pem}]}")
	n.start()
	n.run("api", "publish", "../examples/lamp.openapi.yaml")
	app := n.run("app", "add", "wall", "--scope", "lamps.write", "--quiet")
	tokens := make(map[string]string)
	for _, id := range []string{"dtls", "tcp", "tls", "ws"} {
		tokens[id] = n.run("device", "add", id, "--quiet")
	}
	const key = "a key of sixteen bytes"
	keyFile := filepath.Join(n.folder, "dtls.key")
	if err := os.WriteFile(keyFile, fmt.Appendf(nil, "%x\n", key), 0o600); err != nil {
		t.Fatal(err)
	}
	n.run("device", "psk", "dtls", "--key-file", keyFile)
	own := authority.Issue(t, -time.Hour, time.Hour, "a maker's name")
	certificateFile := filepath.Join(n.folder, "tls.pem")
	certtest.Write(t, own, certificateFile, filepath.Join(n.folder, "tls-key.pem"))
	n.run("device", "certificate", "tls", "--file", certificateFile)

	translator := newNAT(t, coaps)
	quiet := options.WithErrors(func(error) {})
	lamps := []*sessionLamp{
		{id: "dtls", dial: func(t *testing.T, l *sessionLamp) lampSession {
			conn, err := godtls.Dial(translator.inside.LocalAddr().String(), godtls.NewDTLSClientOptions(
				pion.WithPSK(func([]byte) ([]byte, error) { return []byte(key), nil }), pion.WithPSKIdentityHint([]byte("dtls")),
				pion.WithCipherSuites(pion.TLS_PSK_WITH_AES_128_CCM_8), pion.WithConnectionIDGenerator(pion.OnlySendCIDGenerator())),
				options.WithMux(mux.HandlerFunc(l.handler)), quiet)
			if err != nil {
				t.Fatal(err)
			}
			return goCoAPSession{Conn: conn}
		}},
		{id: "tcp", dial: func(t *testing.T, l *sessionLamp) lampSession {
			conn, err := gotcp.Dial(tcp, options.WithMux(mux.HandlerFunc(l.handler)), quiet)
			if err != nil {
				t.Fatal(err)
			}
			return goCoAPSession{conn, tokens["tcp"]}
		}},
		{id: "tls", dial: func(t *testing.T, l *sessionLamp) lampSession {
			conn, err := gotcp.Dial(secureTCP, options.WithMux(mux.HandlerFunc(l.handler)), quiet,
				options.WithTLS(&tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{own}, NextProtos: []string{"coap"}}))
			if err != nil {
				t.Fatal(err)
			}
			return goCoAPSession{Conn: conn}
		}},
		{id: "ws", dial: func(t *testing.T, l *sessionLamp) lampSession {
			client, err := coapsocket.Dial(t.Context(), "coap+ws", n.http, coapsocket.Config{Handler: l.serve})
			if err != nil {
				t.Fatal(err)
			}
			return ownSession{client, tokens["ws"]}
		}},
	}
	for _, l := range lamps {
		t.Run(l.id, func(t *testing.T) {
			expect := func(s lampSession, path, query, want string) {
				t.Helper()
				if got := s.post(t, path, query); got != want {
					t.Fatalf("POST %s?%s: %s, want %s", path, query, got, want)
				}
			}
			tells := func() {
				t.Helper()
				if status, body := n.lamp(t, "GET", app, l.id, "time", ""); status != http.StatusOK || body != clock {
					t.Fatalf("%d, %d bytes %.100s", status, len(body), body)
				}
			}
			first := l.dial(t, l)
			expect(first, "/rd", "ep="+l.id, "2.01")
			tells()
			n.leaveNote(t, app, l.id, "one", http.StatusNoContent)
			if l.id == "dtls" {
				translator.rebind(t)
				expect(first, "/rd/dtls", "lt=3600", "2.04") // from its new address
				tells()
				n.leaveNote(t, app, l.id, "moved", http.StatusNoContent)
			}
			first.close()
			wait(t, "the session to end", func() bool {
				status, _ := n.lamp(t, "GET", app, l.id, "time", "")
				return status == http.StatusConflict
			})
			n.leaveNote(t, app, l.id, "two", http.StatusAccepted)
			second := l.dial(t, l)
			defer second.close()
			expect(second, "/anything", "", "4.04")
			wait(t, "the note to be there", func() bool { return strings.HasSuffix(l.seen(), "two") })
			tells()
			wait(t, "the queue to be empty", func() bool { return n.deviceCommands(t, l.id)[0].State == "answered" })
			wait(t, "a note to be left at once", func() bool { // until the gateway has heard that nothing waits any more
				status, _ := n.lamp(t, "PUT", app, l.id, "note", "three")
				return status == http.StatusNoContent
			})
			want := "one, two, three"
			if l.id == "dtls" {
				want = "one, moved, two, three"
			}
			if got := strings.Join(slices.Compact(strings.Split(l.seen(), ", ")), ", "); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}
