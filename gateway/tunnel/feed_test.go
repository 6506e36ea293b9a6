//go:build linux && (amd64 || arm64)

package tunnel

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldgate/protocol/h1"
)

// messages is a feed of texts.
type messages struct {
	ends
	mu      sync.Mutex
	waiting []string
}

func (m *messages) Next(dst []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, text := range m.waiting {
		dst = h1.AppendFrame(dst, h1.OpText, []byte(text))
	}
	m.waiting = nil
	return dst
}

func (m *messages) say(t *Tunnel, text string) {
	m.mu.Lock()
	m.waiting = append(m.waiting, text)
	m.mu.Unlock()
	t.Wake()
}

func fed(t *testing.T, read string) (far *net.TCPConn, tunnel *Tunnel, feed *messages) {
	t.Helper()
	far, near := pair(t)
	feed = &messages{ends: make(ends, 1)}
	tunnel, err := running(t).TakeFeed(Link{TCP: near}, []byte(read), feed)
	if err != nil {
		t.Fatal(err)
	}
	near.Close()
	return far, tunnel, feed
}

func TestFeed(t *testing.T) {
	far, tunnel, feed := fed(t, frame(0x89, "early"))
	expect(t, far, served(0x8a, "early")) // RFC 6455 §5.5.3
	feed.say(tunnel, "one")
	expect(t, far, served(0x81, "one"))
	io.WriteString(far, frame(0x81, "is dropped")+frame(0x01, "this")+frame(0x89, "ping")+frame(0x80, "too"))
	expect(t, far, served(0x8a, "ping"))
	feed.say(tunnel, "two")
	expect(t, far, served(0x81, "two"))
	io.WriteString(far, frame(0x88, "\x03\xe8bye")+frame(0x89, "nobody answers"))
	expect(t, far, served(0x88, "\x03\xe8bye")) // RFC 6455 §5.5.1
	expectEnd(t, far)
	feed.say(tunnel, "too late")
	far.Close()
	if end := feed.next(t); end.Code != 0 || end.Refused {
		t.Errorf("%+v", end)
	}
	tunnel.Wake()
}

func TestFeedEndsWithItsClient(t *testing.T) {
	for name, stream := range map[string]string{
		"RFC 6455 §5.1 not masked": served(0x81, "x"), "RFC 6455 §5.2 reserved bit": frame(0xc1, "x"), "RFC 6455 §5.5 fragmented control": frame(0x09, "x"),
	} {
		far, _, feed := fed(t, "")
		io.WriteString(far, stream)
		head := make([]byte, 4)
		if _, err := io.ReadFull(far, head); err != nil || head[0] != 0x88 || head[2] != 0x03 || head[3] != 0xea { // 1002
			t.Errorf("%s: %q, %v", name, head, err)
		}
		far.Close()
		if end := feed.next(t); end.Code != h1.CloseProtocol || !end.Refused {
			t.Errorf("%s: %+v", name, end)
		}
	}
	far, _, feed := fed(t, "")
	io.WriteString(far, frame(0x82, strings.Repeat("x", maxFeedMessage+1)))
	expect(t, far, served(0x88, "\x03\xf1message too big")) // RFC 6455 §10.4
	far.Close()
	feed.next(t)

	far, _, feed = fed(t, "")
	far.Close()
	feed.next(t)

	far, tunnel, feed := fed(t, "")
	tunnel.End(h1.ClosePolicy, "revoked")
	expect(t, far, served(0x88, "\x03\xf0revoked"))
	expectEnd(t, far)
	far.Close()
	if end := feed.next(t); end.Code != h1.ClosePolicy {
		t.Errorf("%+v", end)
	}
}

// A client that takes nothing holds one batch; what comes then stays with the feed, until it takes something.
func TestFeedWaitsForItsClient(t *testing.T) {
	far, tunnel, feed := fed(t, "")
	big := strings.Repeat("x", 32<<20)
	feed.say(tunnel, big)
	for taken := false; !taken; time.Sleep(time.Millisecond) {
		feed.mu.Lock()
		taken = feed.waiting == nil
		feed.mu.Unlock()
	}
	feed.say(tunnel, "next")
	done := make(chan struct{})
	tunnel.loop.do(tunnel, func() { close(done) }) // after it was woken
	<-done
	feed.mu.Lock()
	if len(feed.waiting) != 1 {
		t.Error("taken from the feed, though the client has not taken what came before")
	}
	feed.mu.Unlock()
	expect(t, far, served(0x81, big))
	expect(t, far, served(0x81, "next"))
	far.Close()
	feed.next(t)
}

// A silent client is asked whether it is there, and ended if it is not.
func TestFeedAsksForItsClient(t *testing.T) {
	far, tunnel, feed := fed(t, "")
	tunnel.loop.do(tunnel, func() { tunnel.ping = time.Unix(1, 0) })
	expect(t, far, served(0x89, ""))
	io.WriteString(far, frame(0x8a, "")+frame(0x89, ""))
	expect(t, far, served(0x8a, ""))
	tunnel.loop.do(tunnel, func() { tunnel.by = time.Unix(1, 0) })
	if _, err := far.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	feed.next(t)
}
