package h2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer is a scripted client.
type peer struct {
	t testing.TB
	*http2.Framer
	link    net.Conn
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
	served  chan error
	conn    *Conn
}

// newPeer connects to a Conn with that handler, and has exchanged settings with it.
func newPeer(t testing.TB, config *Config, handle func(*Stream)) *peer {
	t.Helper()
	if config == nil {
		config = &Config{}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	far, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, Framer: http2.NewFramer(far, far), link: far, served: make(chan error, 1), decoder: hpack.NewDecoder(4096, nil)}
	p.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.block)
	p.conn = NewConn(near, nil, config, handle)
	go func() { p.served <- p.conn.Serve() }()
	t.Cleanup(func() {
		far.Close()
		near.Close()
	})
	far.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(far, Preface)
	p.WriteSettings()
	return p
}

// head makes a header block of "name: value" pairs.
func (p *peer) head(pairs ...string) []byte {
	p.block.Reset()
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		p.encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return bytes.Clone(p.block.Bytes())
}

func (p *peer) get(path string) []byte {
	return p.head(":method=GET", ":scheme=http", ":path="+path, ":authority=a")
}

func (p *peer) post(path string, more ...string) []byte {
	return p.head(append([]string{":method=POST", ":scheme=http", ":path=" + path, ":authority=a"}, more...)...)
}

func (p *peer) open(stream uint32, block []byte, end bool) {
	p.t.Helper()
	if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: end, EndHeaders: true}); err != nil {
		p.t.Fatal(err)
	}
}

// await reads until a frame that pleases; settings, and acknowledgements of ours, are passed over.
func (p *peer) await(what string, pleases func(http2.Frame) bool) http2.Frame {
	p.t.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.t.Fatalf("no %s: %v", what, err)
		}
		if pleases(f) {
			return f
		}
	}
}

func (p *peer) awaitReset(stream uint32, code http2.ErrCode) {
	p.t.Helper()
	f := p.await("RST_STREAM", func(f http2.Frame) bool { return f.Header().Type == http2.FrameRSTStream }).(*http2.RSTStreamFrame)
	if f.StreamID != stream || f.ErrCode != code {
		p.t.Errorf("stream %d was reset with %v", f.StreamID, f.ErrCode)
	}
}

// awaitEnd expects the connection to end with that error. A flood may be cut so that GOAWAY is not read.
func (p *peer) awaitEnd(code ErrorCode) {
	p.t.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			break
		}
		if away, ok := f.(*http2.GoAwayFrame); ok && ErrorCode(away.ErrCode) != code {
			p.t.Errorf("GOAWAY with %v", away.ErrCode)
		}
	}
	var broken *ConnError
	if err := <-p.served; !errors.As(err, &broken) || broken.Code != code {
		p.t.Errorf("the connection ended with %v", err)
	}
}

// answer reads a whole answer.
func (p *peer) answer(stream uint32) (fields map[string]string, content []byte) {
	p.t.Helper()
	fields = make(map[string]string)
	for {
		f := p.await("answer", func(f http2.Frame) bool { return f.Header().StreamID == stream })
		switch f := f.(type) {
		case *http2.HeadersFrame:
			list, err := p.decoder.DecodeFull(f.HeaderBlockFragment())
			if err != nil {
				p.t.Fatal(err)
			}
			for _, field := range list {
				fields[field.Name] = field.Value
			}
		case *http2.DataFrame:
			content = append(content, f.Data()...)
		case *http2.WindowUpdateFrame: // of content that was read
			continue
		default:
			p.t.Fatalf("%v", f)
		}
		if f.Header().Flags.Has(http2.FlagDataEndStream) {
			return fields, content
		}
	}
}

func ok(s *Stream) { s.Send(200, nil, []byte("ok"), true) }

// hang waits until the client gives up.
func hang(s *Stream) {
	var one [1]byte
	for {
		if _, err := s.Read(one[:]); err != nil {
			if err == io.EOF {
				gone := make(chan struct{})
				s.OnBroken(func() { close(gone) })
				<-gone
			}
			return
		}
	}
}

// unread leaves the content where it is until the stream ends.
func unread(s *Stream) {
	gone := make(chan struct{})
	s.OnBroken(func() { close(gone) })
	<-gone
}

func TestFloods(t *testing.T) {
	many := func(do func(*peer, int) error) func(*peer) {
		return func(p *peer) {
			for i := range 20_000 {
				if do(p, i) != nil {
					return
				}
			}
		}
	}
	for _, c := range []struct {
		name   string
		handle func(*Stream)
		flood  func(*peer)
	}{
		{"PING", ok, many(func(p *peer, _ int) error { return p.WritePing(false, [8]byte{}) })},                             // CVE-2019-9512
		{"SETTINGS", ok, many(func(p *peer, _ int) error { return p.WriteSettings() })},                                     // CVE-2019-9515
		{"PRIORITY", ok, many(func(p *peer, _ int) error { return p.WritePriority(1, http2.PriorityParam{StreamDep: 3}) })}, // CVE-2019-9513
		{"WINDOW_UPDATE", ok, many(func(p *peer, _ int) error { return p.WriteWindowUpdate(0, 1) })},
		{"unknown frames", ok, many(func(p *peer, _ int) error { return p.WriteRawFrame(0x42, 0, 0, nil) })},
		{"empty DATA", hang, func(p *peer) { // CVE-2019-9518
			p.open(1, p.post("/"), false)
			many(func(p *peer, _ int) error { return p.WriteData(1, false, nil) })(p)
		}},
		{"rapid reset", hang, many(func(p *peer, i int) error { // CVE-2023-44487
			id := uint32(2*i + 1)
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.get("/"), EndStream: true, EndHeaders: true})
			return p.WriteRSTStream(id, http2.ErrCodeCancel)
		})},
		{"streams that have to be refused", hang, many(func(p *peer, i int) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: p.get("/"), EndStream: true, EndHeaders: true})
		})},
		{"made to reset", ok, many(func(p *peer, i int) error { // CVE-2025-8671
			id := uint32(2*i + 1)
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.head(":method=GET"), EndStream: true, EndHeaders: true})
		})},
		{"CONTINUATION", ok, func(p *peer) { // CVE-2024-27316
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.get("/")})
			many(func(p *peer, _ int) error { return p.WriteContinuation(1, false, p.head("x=y")) })(p)
		}},
		{"empty CONTINUATION", ok, func(p *peer) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.get("/")})
			many(func(p *peer, _ int) error { return p.WriteContinuation(1, false, nil) })(p)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, nil, c.handle)
			c.flood(p)
			p.awaitEnd(EnhanceYourCalm)
		})
	}
}

// Handlers of streams that their client has reset count until they have ended.
func TestRunningIsBounded(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	running, most := 0, 0
	p := newPeer(t, &Config{MaxStreams: 10}, func(s *Stream) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-release
		mu.Lock()
		running--
		mu.Unlock()
	})
	for i := range 50 {
		p.open(uint32(2*i+1), p.get("/"), true)
		p.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
	}
	p.WritePing(false, [8]byte{1})
	p.await("PING", func(f http2.Frame) bool { return f.Header().Type == http2.FramePing })
	close(release)
	mu.Lock()
	defer mu.Unlock()
	if most > 10 {
		t.Errorf("%d handlers ran at once", most)
	}
}

// RFC 9113 §8.1.1 and §8.3.1: a malformed request is a stream error, and does not reach a handler.
func TestMalformed(t *testing.T) {
	for name, head := range map[string][]string{
		"§8.2.1 capital in a name":          {":method=GET", ":scheme=http", ":path=/", ":authority=a", "X-A=b"},
		"§8.2.1 space in a name":            {":method=GET", ":scheme=http", ":path=/", ":authority=a", "x a=b"},
		"§8.2.1 line feed in a value":       {":method=GET", ":scheme=http", ":path=/", ":authority=a", "x=a\nb"},
		"§8.2.1 whitespace around a value":  {":method=GET", ":scheme=http", ":path=/", ":authority=a", "x= a"},
		"§8.2.2 Connection":                 {":method=GET", ":scheme=http", ":path=/", ":authority=a", "connection=close"},
		"§8.2.2 Transfer-Encoding":          {":method=GET", ":scheme=http", ":path=/", ":authority=a", "transfer-encoding=chunked"},
		"§8.2.2 Upgrade":                    {":method=GET", ":scheme=http", ":path=/", ":authority=a", "upgrade=h2c"},
		"§8.2.2 TE":                         {":method=GET", ":scheme=http", ":path=/", ":authority=a", "te=gzip"},
		"§8.3 pseudo-header field last":     {":method=GET", ":scheme=http", "x=y", ":path=/", ":authority=a"},
		"§8.3 unknown":                      {":method=GET", ":scheme=http", ":path=/", ":authority=a", ":x=y"},
		"§8.3.1 twice":                      {":method=GET", ":method=GET", ":scheme=http", ":path=/", ":authority=a"},
		"§8.3.1 no path":                    {":method=GET", ":scheme=http", ":authority=a"},
		"§8.3.1 empty path":                 {":method=GET", ":scheme=http", ":path=", ":authority=a"},
		"§8.3.1 Host and :authority differ": {":method=GET", ":scheme=http", ":path=/", ":authority=a", "host=b"},
		"§8.5 CONNECT with a path":          {":method=CONNECT", ":scheme=http", ":path=/", ":authority=a:1"},
		"§8.1.1 two lengths":                {":method=GET", ":scheme=http", ":path=/", ":authority=a", "content-length=0", "content-length=0"},
		"§8.1.1 length without content":     {":method=GET", ":scheme=http", ":path=/", ":authority=a", "content-length=1"},
		"RFC 8441 extended CONNECT":         {":method=CONNECT", ":scheme=http", ":path=/", ":authority=a", ":protocol=websocket"},
	} {
		t.Run(name, func(t *testing.T) {
			refused := make(chan string, 1)
			p := newPeer(t, &Config{Malformed: func(reason string) { refused <- reason }}, func(*Stream) { t.Error("reached the handler") })
			p.open(1, p.head(head...), true)
			p.awaitReset(1, http2.ErrCodeProtocol)
			if reason := <-refused; reason == "" {
				t.Error("no reason")
			}
		})
	}
}

// A head beyond the limits reaches the handler as such, and the connection's compression survives it.
func TestHeadTooLarge(t *testing.T) {
	p := newPeer(t, &Config{MaxHead: 1000}, func(s *Stream) {
		status := 200
		if s.TooLarge {
			status = 431
		}
		s.Send(status, nil, nil, true)
	})
	p.open(1, p.post("/", "x="+strings.Repeat("a", 1000)), true)
	if fields, _ := p.answer(1); fields[":status"] != "431" {
		t.Errorf("%v", fields)
	}
	p.open(3, p.get("/"), true)
	if fields, _ := p.answer(3); fields[":status"] != "200" {
		t.Errorf("%v", fields)
	}
}

// RFC 9113 §6.9: nothing is sent beyond the windows, a window may be negative (§6.9.2), and one stream that waits holds up no other.
func TestFlowControl(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 200_000)
	p := newPeer(t, nil, func(s *Stream) {
		if string(s.Path) == "/large" {
			s.Send(200, nil, content, true)
		} else {
			ok(s)
		}
	})
	p.WriteWindowUpdate(0, 1<<20) // the connection's is no matter
	p.open(1, p.get("/large"), true)
	got := 0
	data := func(n int) {
		t.Helper()
		for want := got + n; got < want; {
			f := p.await("DATA", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData && f.Header().StreamID == 1 })
			got += len(f.(*http2.DataFrame).Data())
		}
	}
	data(initialWindow)
	p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}) // the window is now 10 - 65,535
	p.WriteWindowUpdate(1, initialWindow-10)                                    // and now 0
	p.open(3, p.get("/"), true)
	if _, other := p.answer(3); string(other) != "ok" {
		t.Errorf("%q", other)
	}
	if got != initialWindow {
		t.Errorf("%d bytes came", got)
	}
	p.WriteWindowUpdate(1, 1)
	data(1)
	p.WriteWindowUpdate(1, 1<<20)
	data(len(content) - got)
}

// RFC 9113 §6.9.1: windows beyond 2^31-1 and content beyond ours are errors; what is read is given back.
func TestReceiveWindow(t *testing.T) {
	t.Run("given back", func(t *testing.T) {
		p := newPeer(t, nil, func(s *Stream) {
			n, err := io.Copy(io.Discard, s)
			s.Send(200, []Field{{[]byte("x-read"), []byte(time.Duration(n).String())}}, nil, err == nil)
		})
		p.open(1, p.post("/"), false)
		piece := bytes.Repeat([]byte("x"), 16384)
		window := initialWindow
		const total = 300 * 16384
		for sent := 0; sent < total; {
			if window < len(piece) {
				f := p.await("WINDOW_UPDATE", func(f http2.Frame) bool {
					return f.Header().Type == http2.FrameWindowUpdate && f.Header().StreamID == 1
				})
				window += int(f.(*http2.WindowUpdateFrame).Increment)
				continue
			}
			sent += len(piece)
			window -= len(piece)
			if err := p.WriteData(1, sent == total, piece); err != nil {
				t.Fatal(err)
			}
		}
		if fields, _ := p.answer(1); fields["x-read"] != time.Duration(total).String() {
			t.Errorf("%v", fields)
		}
	})
	t.Run("stream", func(t *testing.T) {
		p := newPeer(t, nil, unread)
		p.open(1, p.post("/"), false)
		for range 5 {
			p.WriteData(1, false, make([]byte, 16384))
		}
		p.awaitReset(1, http2.ErrCodeFlowControl)
	})
	t.Run("padding counts", func(t *testing.T) {
		p := newPeer(t, &Config{ConnWindow: initialWindow}, unread)
		p.open(1, p.post("/"), false)
		p.WriteData(1, false, make([]byte, 16384))
		for range 3 {
			p.WriteDataPadded(1, false, make([]byte, 16000), make([]byte, 200))
		}
		p.WriteDataPadded(1, false, make([]byte, 16000), make([]byte, 200))
		p.awaitEnd(FlowControlError)
	})
}

// RFC 9113 §8.1.1: content that is not as long as announced is an error for who reads it.
func TestContentLength(t *testing.T) {
	for name, content := range map[string]string{"short": "abc", "long": "abcdef"} {
		t.Run(name, func(t *testing.T) {
			read := make(chan error, 1)
			p := newPeer(t, nil, func(s *Stream) {
				_, err := io.ReadAll(s)
				read <- err
			})
			p.open(1, p.post("/", "content-length=5"), false)
			p.WriteData(1, true, []byte(content))
			p.awaitReset(1, http2.ErrCodeProtocol)
			var broken *StreamError
			if err := <-read; !errors.As(err, &broken) {
				t.Errorf("%v", err)
			}
		})
	}
}

// RFC 9113 §8.1: trailers both ways.
func TestTrailers(t *testing.T) {
	p := newPeer(t, nil, func(s *Stream) {
		content, _ := io.ReadAll(s)
		s.Send(200, nil, content, false)
		s.SendTrailers(s.Trailers())
	})
	p.open(1, p.post("/"), false)
	p.WriteData(1, false, []byte("abc"))
	p.open(1, p.head("grpc-status=0"), true)
	fields, content := p.answer(1)
	if string(content) != "abc" || fields["grpc-status"] != "0" {
		t.Errorf("%q %v", content, fields)
	}
}

// A handler that returns without having ended its answer makes the client see that.
func TestUnfinished(t *testing.T) {
	p := newPeer(t, nil, func(s *Stream) { s.Send(200, nil, []byte("half"), false) })
	p.open(1, p.get("/"), true)
	p.awaitReset(1, http2.ErrCodeInternal)
}

// RFC 9113 §8.1: an answer that comes before the end of the request ends it without an error.
func TestEarlyAnswer(t *testing.T) {
	p := newPeer(t, nil, ok)
	p.open(1, p.post("/"), false)
	p.answer(1)
	p.awaitReset(1, http2.ErrCodeNo)
	p.WriteData(1, true, []byte("what was on its way is ignored")) // RFC 9113 §5.1
	p.open(3, p.get("/"), true)
	p.answer(3)
}

// RFC 9113 §6.8: who is told to go is served what it asked before it knew.
func TestGoAway(t *testing.T) {
	release := make(chan struct{})
	p := newPeer(t, nil, func(s *Stream) {
		<-release
		ok(s)
	})
	p.open(1, p.get("/"), true)
	p.WritePing(false, [8]byte{9})
	p.await("PING", func(f http2.Frame) bool { return f.Header().Type == http2.FramePing })
	p.conn.GoAway()
	first := p.await("GOAWAY", func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway }).(*http2.GoAwayFrame)
	if first.LastStreamID != maxStream || first.ErrCode != http2.ErrCodeNo {
		t.Errorf("%v", first)
	}
	p.open(3, p.get("/"), true) // crosses it
	ping := p.await("PING", func(f http2.Frame) bool { return f.Header().Type == http2.FramePing }).(*http2.PingFrame)
	p.WritePing(true, ping.Data)
	second := p.await("GOAWAY", func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway }).(*http2.GoAwayFrame)
	if second.LastStreamID != 3 {
		t.Errorf("%v", second)
	}
	p.open(5, p.get("/"), true) // is not served
	close(release)
	answered := map[uint32]bool{}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			break
		}
		if data, ok := f.(*http2.DataFrame); ok {
			answered[data.StreamID] = true
		}
	}
	if err := <-p.served; err != nil || !answered[1] || !answered[3] || answered[5] {
		t.Errorf("%v %v", answered, err)
	}
}

// RFC 9113 §6.5.3: a client that never acknowledges our settings.
func TestSettingsTimeout(t *testing.T) {
	p := newPeer(t, &Config{SettingsTimeout: 50 * time.Millisecond}, ok)
	p.awaitEnd(SettingsTimeout)
}

// RFC 7541 §4.2: a client may shrink our table at any time, and grow it again.
func TestTableSize(t *testing.T) {
	p := newPeer(t, nil, func(s *Stream) {
		s.Send(200, []Field{{[]byte("Content-Type"), []byte("text/plain")}, {[]byte("X-Path"), s.Path}}, nil, true)
	})
	for i, size := range []uint32{4096, 0, 4096, 100, 50, 65536} {
		p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size})
		p.decoder.SetAllowedMaxDynamicTableSize(size)
		p.await("acknowledgement", func(f http2.Frame) bool {
			return f.Header().Type == http2.FrameSettings && f.Header().Flags.Has(http2.FlagSettingsAck)
		})
		for j := range 40 {
			id := uint32(2*(40*i+j) + 1)
			path := "/" + strings.Repeat("p", j%7)
			p.open(id, p.get(path), true)
			if fields, _ := p.answer(id); fields["x-path"] != path || fields["content-type"] != "text/plain" {
				t.Fatalf("table of %d: %v", size, fields)
			}
		}
	}
}

// What a handler leaves unread is the connection's again once the stream has ended (RFC 9113 §6.9): clients whose uploads are refused
// must not run out of window for those that are not.
func TestUnreadContentIsCredited(t *testing.T) {
	p := newPeer(t, nil, ok)
	chunk := make([]byte, 16000)
	window := initialWindow // of the connection, as the client knows it
	for stream := uint32(1); stream < 400; stream += 2 {
		p.open(stream, p.post("/"), false)
		for window < 4*len(chunk) {
			f := p.await("WINDOW_UPDATE of the connection", func(f http2.Frame) bool {
				return f.Header().Type == http2.FrameWindowUpdate && f.Header().StreamID == 0
			})
			window += int(f.(*http2.WindowUpdateFrame).Increment)
		}
		for i := range 4 {
			if err := p.WriteData(stream, i == 3, chunk); err != nil {
				t.Fatal(err)
			}
			window -= len(chunk)
		}
	}
}

// One frame of SETTINGS may hold 2,730 times INITIAL_WINDOW_SIZE, each of which moves the windows of all streams.
func TestSettingsAreFew(t *testing.T) {
	p := newPeer(t, nil, ok)
	var many []http2.Setting
	for i := range 100 {
		many = append(many, http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
	}
	p.WriteSettings(many...)
	p.awaitEnd(EnhanceYourCalm)
}

// RFC 7541 §4.2: of a table that shrinks and grows between two field sections, the smallest size has to be told too.
func TestTableShrinksAndGrows(t *testing.T) {
	p := newPeer(t, nil, ok)
	p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 4096})
	p.open(1, p.get("/"), true)
	f := p.await("HEADERS", func(f http2.Frame) bool { return f.Header().Type == http2.FrameHeaders }).(*http2.HeadersFrame)
	if want := []byte{0x20, 0x3f, 0xe1, 0x1f}; !bytes.HasPrefix(f.HeaderBlockFragment(), want) {
		t.Errorf("field section begins with % x", f.HeaderBlockFragment())
	}
}

// RFC 9113 §3.4: SETTINGS come first, also of a server that is about to end.
func TestGoAwayBeforeServe(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := NewConn(near, nil, &Config{}, ok)
	c.GoAway()
	served := make(chan error, 1)
	go func() { served <- c.Serve() }()
	far.SetDeadline(time.Now().Add(time.Minute))
	go io.WriteString(far, Preface)
	f, err := http2.NewFramer(far, far).ReadFrame()
	if err != nil || f.Header().Type != http2.FrameSettings {
		t.Errorf("the first frame is %v, %v", f, err)
	}
	far.Close()
	<-served
}

func FuzzConn(f *testing.F) {
	var frames bytes.Buffer
	framer := http2.NewFramer(&frames, nil)
	framer.WriteSettings()
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82, 0x84, 0x86, 0x41, 0x01, 'a'}, EndHeaders: true})
	framer.WriteData(1, true, []byte("abc"))
	framer.WriteRSTStream(1, http2.ErrCodeCancel)
	framer.WriteWindowUpdate(0, 100)
	framer.WritePing(false, [8]byte{})
	f.Add(frames.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		near, far := net.Pipe()
		c := NewConn(near, []byte(Preface), &Config{WriteTimeout: time.Second}, func(s *Stream) {
			io.Copy(io.Discard, s)
			s.Send(200, nil, []byte("ok"), true)
		})
		served := make(chan struct{})
		go func() {
			defer close(served)
			c.Serve()
		}()
		go io.Copy(io.Discard, far)
		far.Write(data)
		far.Close()
		<-served
		if len(c.streams) != 0 || c.running != 0 || c.recvWindow < -maxFrame {
			t.Errorf("%d streams, %d running", len(c.streams), c.running)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	content := bytes.Repeat([]byte("x"), 200)
	fields := []Field{{[]byte("Content-Type"), []byte("application/json")}, {[]byte("Content-Length"), []byte("200")}}
	p := newPeer(b, nil, func(s *Stream) { s.Send(200, fields, content, true) })
	p.link.SetDeadline(time.Time{})
	p.open(1, p.get("/"), true)
	block := p.get("/") // by index
	var out bytes.Buffer
	framer := http2.NewFramer(&out, nil)
	framer.WriteWindowUpdate(0, 200)
	id := uint32(1)
	b.ReportAllocs()
	buf := make([]byte, 64<<10)
	for b.Loop() {
		id += 2
		out.Truncate(13)
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true})
		p.link.Write(out.Bytes())
		if _, err := p.link.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
