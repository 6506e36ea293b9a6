package coapfront

import (
	"net"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/protocol/coap"
)

// Who is revoked gets no further block, not even of what it had asked for before.
func TestBlocksEndWithRevocation(t *testing.T) {
	g := newGateway(t)
	conn, err := net.Dial("udp", g.address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id := uint16(0)
	block := func(num uint32) coap.Code {
		t.Helper()
		id++
		var options coap.Options
		options.AddString(coap.URIPath, "blob")
		options.AddUint(coap.Block2, coap.Block{Num: num, SZX: 6}.Uint())
		options.AddString(OptionCredential, g.token)
		if _, err := conn.Write(coap.AppendMessage(nil, coap.NonConfirmable, coap.GET, id, []byte{1}, &options, nil)); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		buffer := make([]byte, 2048)
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		m, err := coap.Decode(buffer[:n])
		if err != nil {
			t.Fatal(err)
		}
		return m.Code
	}
	if code := block(0); code != coap.Content {
		t.Fatal(code)
	}
	<-g.asked
	if code := block(3); code != coap.Content || len(g.asked) != 0 {
		t.Fatalf("before: %v, the service was asked %d times", code, len(g.asked))
	}
	g.change(fieldgate.PrincipalDevice, "d7", fieldgate.StateQuarantined, g.token)
	if code := block(3); code != coap.Forbidden {
		t.Errorf("quarantined: %v", code)
	}
	g.change(fieldgate.PrincipalDevice, "d7", fieldgate.StateRevoked)
	if code := block(3); code != coap.Unauthorized {
		t.Errorf("revoked: %v", code)
	}
}

// What the endpoint refuses itself leaves a Record of whoever sent it.
func TestRefusedByTheEndpoint(t *testing.T) {
	g := newGateway(t)
	for _, test := range []struct {
		name   string
		call   *coap.Call
		code   coap.Code
		status int
	}{
		{"critical option", call(coap.GET, "/readings", nil, token(g.token), number(2049, 1)), coap.BadOption, 400},
		{"method", call(31, "/readings", nil, token(g.token)), coap.MethodNotAllowed, 405},
		{"proxy", call(coap.GET, "/readings", nil, token(g.token), text(coap.ProxyScheme, "http")), coap.ProxyingNotSupported, 400},
		{"size", call(coap.PUT, "/blob", []byte("x"), token(g.token), number(coap.Block1, coap.Block{}.Uint()), number(coap.Size1, 1<<30)), coap.RequestEntityTooLarge, 413},
	} {
		if r := g.do(test.call); r.Code != test.code {
			t.Errorf("%s: %v, want %v", test.name, r.Code, test.code)
		}
		if r := g.records.take(t, 1)[0]; r.Status != test.status || r.Principal != "d7" || r.Kind != fieldgate.PrincipalDevice || !strings.HasPrefix(r.Route, "/") {
			t.Errorf("%s: record %+v", test.name, r)
		}
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	at := time.Now()
	for _, test := range []struct {
		after time.Duration
		want  int
	}{{0, refusalBurst}, {0, 0}, {time.Second, refusalsInSecond}, {time.Hour, refusalBurst}} {
		at = at.Add(test.after)
		n := 0
		for range 10 * refusalBurst {
			if r.take(at) {
				n++
			}
		}
		if n != test.want {
			t.Errorf("%v later: %d records, want %d", test.after, n, test.want)
		}
	}
}
