package mqtt

import (
	"bytes"
	"testing"
)

func authPacket(reason Reason, method, data string) []byte {
	p := Disconnect{Type: AUTH, Reason: reason}
	if method != "" {
		p.Properties.SetText(AuthenticationMethod, []byte(method))
	}
	if data != "" {
		p.Properties.SetText(AuthenticationData, []byte(data))
	}
	return p.Append(nil, V5)
}

// authServer challenges once and accepts who answers "right".
func authServer() *server {
	s := newServer(DefaultLimits())
	s.auth = func(*Connect) { s.Challenge([]byte("who?")) }
	return s
}

func (s *server) decide() {
	switch right := string(s.in.Auth.Properties.Text(AuthenticationData)) == "right"; {
	case s.state == deciding && right:
		s.Accept(Acceptance{Session: s.session, AuthenticationData: []byte("welcome")}, epoch)
	case s.state == deciding:
		s.Refuse(NotAuthorized, "")
	case right:
		s.Reauthenticated([]byte("still welcome"))
	case s.in.Auth.Reason == Reauthenticate:
		s.Challenge([]byte("again?"))
	default:
		s.Close(NotAuthorized)
	}
}

func withMethod(method string) func(*Connect) {
	return func(c *Connect) { c.Properties.SetText(AuthenticationMethod, []byte(method)) }
}

func TestEnhancedAuthentication(t *testing.T) {
	s := authServer()
	s.feed(connectPacket(V5, withMethod("M")))
	if out := s.sent(); !bytes.Equal(out, authPacket(ContinueAuthentication, "M", "who?")) { // [MQTT-4.12.0-2] [MQTT-4.12.0-5]
		t.Fatalf("sent %x", out)
	}
	s.feed(authPacket(ContinueAuthentication, "M", "right"))
	var p Connack
	out := s.sent()
	if err := p.Decode(out[2:], V5); err != nil || p.Reason != Success || string(p.Properties.Text(AuthenticationMethod)) != "M" ||
		string(p.Properties.Text(AuthenticationData)) != "welcome" {
		t.Fatalf("[MQTT-4.12.0-5] sent %x, %v", out, err)
	}
	// Re-authentication beside other traffic (§4.12.1), twice.
	for range 2 {
		s.feed(authPacket(Reauthenticate, "M", "hello"))
		s.feed(publishPacket(V5, 1, 1, "t", "x"))
		s.feed(authPacket(ContinueAuthentication, "M", "right"))
		wantPackets(t, s, "AUTH", "PUBACK", "AUTH")
	}
	if s.err != nil || s.Closed() {
		t.Fatal(s.err)
	}
	s.feed(authPacket(Reauthenticate, "M", "hello"))
	s.feed(authPacket(ContinueAuthentication, "M", "wrong"))
	wantPackets(t, s, "AUTH", "DISCONNECT") // [MQTT-4.12.1-2]
	if !s.Closed() {
		t.Fatal("not closed")
	}
}

func TestEnhancedAuthenticationViolations(t *testing.T) {
	for _, test := range []struct {
		name   string
		after  bool // the authentication
		packet []byte
		want   error
	}{
		{"other method", false, authPacket(ContinueAuthentication, "N", "right"), ErrAuthOtherMethod},
		{"no method", false, authPacket(ContinueAuthentication, "", ""), ErrAuthOtherMethod},
		{"re-authentication before the first", false, authPacket(Reauthenticate, "M", ""), ErrAuthReason},
		{"success from a client", false, authPacket(Success, "M", ""), ErrAuthReason},
		{"PUBLISH before CONNACK", false, publishPacket(V5, 0, 0, "t", ""), ErrNotAuth},
		{"CONNECT before CONNACK", false, connectPacket(V5, nil), ErrNotAuth},
		{"packet above the limit before CONNACK", false, appendHeader(nil, AUTH, 0, 64<<10), ErrTooLarge},
		{"answer to no challenge", true, authPacket(ContinueAuthentication, "M", "right"), ErrAuthReason},
		{"other method afterwards", true, authPacket(Reauthenticate, "N", ""), ErrAuthOtherMethod},
		{"re-authentication inside one", true, append(authPacket(Reauthenticate, "M", ""), authPacket(Reauthenticate, "M", "")...), ErrAuthReason},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := authServer()
			s.feed(connectPacket(V5, withMethod("M")))
			want := "CONNACK" // [MQTT-3.14.0-1]
			if test.after {
				s.feed(authPacket(ContinueAuthentication, "M", "right"))
				want = "DISCONNECT"
			}
			s.sent()
			s.feed(test.packet)
			got := packets(t, V5, s.sent())
			if s.err != test.want || !s.Closed() || len(got) == 0 || got[len(got)-1] != want {
				t.Fatalf("%v, sent %v", s.err, got)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		s := authServer()
		s.feed(connectPacket(V5, withMethod("M")))
		s.sent()
		s.feed(append(authPacket(ContinueAuthentication, "M", "wrong"), publishPacket(V5, 0, 0, "t", "")...))
		if out := s.sent(); !bytes.Equal(out, []byte{0x20, 3, 0, 0x87, 0}) || !s.Closed() || len(s.topics) > 0 { // [MQTT-4.12.0-4] [MQTT-3.1.4-6]
			t.Fatalf("sent %x", out)
		}
	})
	t.Run("client gives up", func(t *testing.T) {
		s := authServer()
		s.feed(connectPacket(V5, withMethod("M")))
		s.feed([]byte{0xE0, 0})
		if s.err != nil || !s.Closed() {
			t.Fatal(s.err)
		}
	})
}

// What does not fit the client's maximum packet size is not sent [MQTT-3.1.2-24], even where the connection cannot go on.
func TestNothingAboveTheClientsMaximumPacketSize(t *testing.T) {
	for _, size := range []uint32{1, 4, 15, 16, 17, 19} {
		s := authServer()
		s.feed(connectPacket(V5, func(c *Connect) {
			withMethod("M")(c)
			c.Properties.SetNumber(MaximumPacketSize, size)
		}))
		s.feed(authPacket(ContinueAuthentication, "M", "right"))
		for out := s.sent(); len(out) > 0; {
			h, n, err := ReadHeader(out)
			if err != nil || n+h.Length > int(size) {
				t.Fatalf("limit %d: sent %x, %v", size, out, err)
			}
			out = out[n+h.Length:]
		}
	}
	s := connected5(t, func(c *Connect) { c.Properties.SetNumber(MaximumPacketSize, 20) })
	s.AcknowledgeSubscribe(1, make([]Reason, 30))
	wantPackets(t, s, "DISCONNECT")
	s = connected5(t, func(c *Connect) { c.Properties.SetNumber(MaximumPacketSize, 20) })
	s.Redirect(UseAnotherServer, "a-server-with-a-long-name.example.com:8883")
	if out := s.sent(); !bytes.Equal(out, []byte{0xE0, 1, 0x9C}) { // [MQTT-3.14.2-3]
		t.Fatalf("sent %x", out)
	}
	s = connected5(t, nil)
	s.Redirect(ServerMoved, "b:1")
	if out := s.sent(); !bytes.Equal(out, unhex(t, "e0 08 9d 06 1c 0003 623a31")) {
		t.Fatalf("sent %x", out)
	}
}
