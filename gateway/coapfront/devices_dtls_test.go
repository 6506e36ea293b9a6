package coapfront

import (
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	pion "github.com/pion/dtls/v3"

	"fieldgate"
	"fieldgate/engine/seal"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// A device that registers over DTLS is known by its handshake, and asked over its newest session.
func TestAskOverDTLS(t *testing.T) {
	b := openBus(t)
	s := &secureGateway{secrets: seal.Open(filepath.Join(t.TempDir(), "secrets.key"), true)}
	if _, err := s.secrets.Need(); err != nil {
		t.Fatal(err)
	}
	var devices *Devices
	s.gateway = newGateway(t, func(c *Config) {
		c.Pipeline.Directory.Secrets = s.secrets
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		c.DTLS = DTLS{Conn: conn}
		devices = NewDevices(DevicesConfig{Node: "n1", Epoch: 1, Bus: b, Directory: c.Pipeline.Directory, Logger: c.Logger})
		c.Devices = devices
	})
	run(t, devices.Run)
	s.secure = s.front.Addresses()["coaps"]
	s.provision("d7", fieldgate.StateActive, deviceKey)

	type asked struct {
		answer  pipeline.Answer
		problem *fieldgate.Problem
	}
	// ask has the gateway ask the device, which answers over a connection.
	ask := func(conn *pion.Conn) asked {
		t.Helper()
		done := make(chan asked, 1)
		go func() {
			answer, problem := devices.Ask(t.Context(), deviceCall("GET", "/t", 0))
			done <- asked{answer, problem}
		}()
		request := s.receive(conn)
		if request.Type != coap.Confirmable || request.Code != coap.GET || request.Path() != "/t" {
			t.Fatalf("%+v", request)
		}
		if _, err := conn.Write(coap.AppendMessage(nil, coap.Acknowledgement, coap.Content, request.MessageID, request.Token, new(coap.Options), []byte("21"))); err != nil {
			t.Fatal(err)
		}
		return <-done
	}
	_, first := s.newClient(pskOptions("d7", deviceKey)...)
	if m := s.exchange(first, 1, coap.POST, "/rd"); m.Code != coap.Created {
		t.Fatal(m.Code)
	}
	if got := ask(first); got.problem != nil || got.answer.Status != 200 || string(got.answer.Body) != "21" {
		t.Fatalf("%+v", got)
	}
	registration := func() *fieldgate.DeviceRegistration {
		r, err := devices.shared.Registration(t.Context(), "d7")
		if err != nil || r == nil {
			t.Fatal(r, err)
		}
		return r
	}
	before := registration()
	if at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(before.Address.Port())); before.Transport != "coaps" || before.Address != at {
		t.Errorf("%+v", before)
	}
	_, second := s.newClient(pskOptions("d7", deviceKey)...)
	if m := s.exchange(second, 2, coap.GET, "/mock"); m.Code != coap.Content {
		t.Fatal(m.Code)
	}
	eventually(t, "the new session counts", func() bool { return registration().Peer != before.Peer })
	eventually(t, "this gateway knows", func() bool {
		r := devices.device("d7").present(time.Now())
		return r != nil && r.Peer != before.Peer
	})
	if got := ask(second); got.problem != nil || string(got.answer.Body) != "21" {
		t.Fatalf("%+v", got)
	}
}
