package mqtt

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// serve runs the simplest server over conn: it refuses the password "wrong", denies publishing below "denied", and sends
// every message back to the client that published it, on its response topic if it has one.
func serve(conn net.Conn) {
	defer conn.Close()
	c := NewConn(new(DefaultLimits()))
	session := &Session{Owner: newServer(DefaultLimits())}
	var in Packets
	buffer := make([]byte, 1000)
	for !c.Closed() {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		c.Feed(buffer[:n])
		for {
			now := time.Now()
			event, err := c.Next(now, &in)
			if err != nil || event == NeedMore {
				break
			}
			switch event {
			case ConnectReceived:
				if string(in.Connect.Password) == "wrong" {
					c.Refuse(BadUserNameOrPassword, "")
				} else {
					c.Accept(Acceptance{Session: session}, now)
				}
			case SubscribeReceived:
				c.AcknowledgeSubscribe(in.Subscribe.PacketID, []Reason{GrantedQoS2})
			case UnsubscribeReceived:
				c.AcknowledgeUnsubscribe(in.Unsubscribe.PacketID, []Reason{Success})
			case PublishReceived:
				p := &in.Publish
				reason := Success
				if strings.HasPrefix(string(p.Topic), "denied") {
					reason = NotAuthorized
				}
				if p.QoS > 0 {
					c.Acknowledge(p.PacketID, reason, "not yours")
				}
				m := NewMessage(p, now)
				if to := p.Properties.Text(ResponseTopic); to != nil {
					m.Topic = append([]byte(nil), to...)
				}
				c.Deliver(Delivery{Message: m, QoS: p.QoS}, now)
			}
		}
		if _, err := conn.Write(c.Out(nil, time.Now())); err != nil {
			return
		}
	}
}

// loopback gives the two ends of a TCP connection: unlike a pipe it lets both sides write at once.
func loopback(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func dialTest(t *testing.T, options ClientOptions) (*Client, error) {
	ours, theirs := loopback(t)
	go serve(theirs)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Dial(ctx, ours, options)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestClientExchangesMessagesAtEveryQoS(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		received := make(chan string, 10)
		c, err := dialTest(t, ClientOptions{Version: v, ClientID: "c", Password: "right", Receive: func(p *Publish) {
			value, _ := p.Properties.UserValue("k")
			received <- string(p.Topic) + " " + string(p.Payload) + " " + string(value)
		}})
		if err != nil {
			t.Fatal(err)
		}
		if reasons, err := c.Subscribe(t.Context(), Filter{Filter: []byte("#"), QoS: 2}); err != nil || reasons[0] != GrantedQoS2 {
			t.Fatal(reasons, err)
		}
		for qos := range byte(3) {
			p := &Publish{QoS: qos, Topic: []byte("t"), Payload: []byte("hi")}
			want := "t hi "
			if v == V5 {
				p.Properties.AddUser("k", "value")
				want += "value"
			}
			if err := c.Publish(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if got := <-received; got != want {
				t.Fatalf("received %q", got)
			}
		}
		if _, err := c.Unsubscribe(t.Context(), "#"); err != nil {
			t.Fatal(err)
		}
		if err := c.Disconnect(Success); err != nil {
			t.Fatal(err)
		}
		if err := c.Publish(t.Context(), &Publish{Topic: []byte("t")}); err != ErrClientClosed {
			t.Fatalf("after Disconnect: %v", err)
		}
	}
}

func TestClientReportsRefusals(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		_, err := dialTest(t, ClientOptions{Version: v, ClientID: "c", Password: "wrong"})
		var refusal *ReasonError
		if !errors.As(err, &refusal) || refusal.Packet != CONNACK || refusal.Reason != BadUserNameOrPassword {
			t.Fatalf("version %v: %v", v, err)
		}
	}
	c, err := dialTest(t, ClientOptions{ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	for qos := byte(1); qos < 3; qos++ {
		var refusal *ReasonError
		err := c.Publish(t.Context(), &Publish{QoS: qos, Topic: []byte("denied")})
		if !errors.As(err, &refusal) || refusal.Reason != NotAuthorized || refusal.Text != "not yours" {
			t.Fatalf("QoS %d: %v", qos, err)
		}
	}
	if _, err := c.Subscribe(t.Context(), Filter{Filter: []byte("a#")}); err == nil {
		t.Fatal("sent an invalid filter")
	}
}

func TestClientRequest(t *testing.T) {
	c, err := dialTest(t, ClientOptions{ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{"one", "two"} {
		reply, err := c.Request(t.Context(), &Publish{QoS: 1, Topic: []byte("ask"), Payload: []byte(payload)}, "reply/c")
		if err != nil || string(reply.Payload) != payload || string(reply.Topic) != "reply/c" {
			t.Fatalf("%+v, %v", reply, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Request(ctx, &Publish{QoS: 1, Topic: []byte("ask")}, "reply/c"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestClientGivesUpOnASilentServer(t *testing.T) {
	ours, theirs := loopback(t)
	defer theirs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, ours, ClientOptions{ClientID: "c"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}
