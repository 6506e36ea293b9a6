package smuggling

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Streams of requests are made by a grammar: a correct request in one of the framings, whose content looks like another request,
// with pipelined ones behind it. Each part of it is then, with some chance, replaced by what implementations were found to
// disagree about. The n-th stream is always the same.

type generator struct {
	*rand.Rand
	number int
	bad    float64 // chance of each part to be other than it should be
}

func newGenerator(seed uint64, number int) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, uint64(number))), number: number}
	g.bad = []float64{0, 0.02, 0.05, 0.1, 0.2}[number%5] // most streams are to be wrong in one place only
	return g
}

func (g *generator) pick(from ...string) string { return from[g.IntN(len(from))] }

// or is the right word, or now and then one of the others.
func (g *generator) or(right string, others ...string) string {
	if g.Float64() < g.bad {
		return g.pick(others...)
	}
	return right
}

func (g *generator) sometimes() bool { return g.Float64() < g.bad }

func (g *generator) crlf() string {
	return g.or("\r\n", "\n", "\r", "\r\r\n", "\n\r", " \r\n", "\t\r\n", "\x00\r\n", "\v\r\n", "\x85\r\n")
}

// requests is the stream of that number.
func requests(number int) []byte {
	g := newGenerator(1, number)
	var out strings.Builder
	out.WriteString(g.or("", "\r\n", "\n", "\r\n\r\n", " ", "\r", "\x00"))
	for k := range 1 + g.IntN(2) {
		out.WriteString(g.request(k))
		out.WriteString(g.or("", "\r\n", "\n", "0\r\n\r\n", "x", " "))
	}
	fmt.Fprintf(&out, "GET /last?c=%d.last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", number)
	stream := []byte(out.String())
	if g.Float64() < g.bad/2 {
		stream = g.scramble(stream)
	}
	return stream
}

// scramble changes single bytes anywhere.
func (g *generator) scramble(stream []byte) []byte {
	const odd = "\x00\x01\t\n\v\f\r \"#%(),/:;=@[\\]\x7f\x80\xa0\xff+-0"
	for range 1 + g.IntN(3) {
		at, c := g.IntN(len(stream)), odd[g.IntN(len(odd))]
		switch g.IntN(4) {
		case 0:
			stream[at] = c
		case 1:
			stream = append(stream[:at:at], append([]byte{c}, stream[at:]...)...)
		case 2:
			stream = append(stream[:at:at], stream[at+1:]...)
		case 3:
			end := min(len(stream), at+1+g.IntN(40))
			stream = append(stream[:end:end], append(append([]byte(nil), stream[at:end]...), stream[end:]...)...)
		}
	}
	return stream
}

func (g *generator) request(k int) string {
	method := g.pick("GET", "POST", "POST", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH")
	method = g.or(method, "get", "PoST", "GE\tT", "", "CONNECT", "TRACE", "G(ET", "PRI", "POST\x00", "M-SEARCH", "GET_X")
	target := fmt.Sprintf("/r%d?c=%d.%d", k, g.number, k)
	target = g.or(target, "http://a"+target, "HTTP://a"+target, "https://a"+target, "http://b"+target, "http://u@a"+target, "//a"+target, "/x/.."+target,
		"/%2e%2e"+target, "/a%2fb"+target, "*", "a:80", "/a b"+target, target+"#f", "/é"+target, "/%00"+target, "\\"+target, "/;"+target, "/..;"+target, "")
	version := g.or("HTTP/1.1", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/01.1", "HTTP/1.10", "HTTP/1.1\t", "HTTP/1.1 x", "HTTP/1,1", "HTTP /1.1", "")
	space := g.or(" ", "  ", "\t", "\v", " \t", "\x00", "")
	var out strings.Builder
	out.WriteString(g.or("", " ", "\t") + method + space + target + space + version + g.crlf())

	content := g.content(k)
	fields := []string{g.field(g.or("Host", "host", "Host ", "Host\t", "H\x00st"), g.or("a", "b", "a:80", "a, b", "", "a\x00", "u@a", "a/b"))}
	if g.sometimes() {
		fields = append(fields, g.field("Host", "b"))
	}
	switch g.IntN(8) {
	case 0: // no content, so what follows is another request
		content = ""
	case 1, 2, 3:
		fields = append(fields, g.lengths(len(content))...)
	case 4, 5, 6:
		fields = append(fields, g.codings()...)
		if g.sometimes() {
			fields = append(fields, g.lengths(len(content))...)
		}
		content = g.chunks(content)
	case 7:
		fields = append(fields, g.field("Content-Length", "0"))
		content = ""
	}
	fields = append(fields, g.extras()...)
	g.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	for _, field := range fields {
		out.WriteString(field)
	}
	return out.String() + g.crlf() + content
}

// content looks like requests, so that whoever ends it too early sees them.
func (g *generator) content(k int) string {
	hidden := fmt.Sprintf("GET /hidden%d?c=%d.h HTTP/1.1\r\nHost: a\r\n\r\n", k, g.number)
	return g.pick("abc", "0\r\n\r\n"+hidden, hidden, hidden+hidden, "\r\n"+hidden, "5\r\nhello\r\n0\r\n\r\n", strings.Repeat("x", 3000)+hidden, "\r\n\r\n")
}

func (g *generator) field(name, value string) string {
	colon := g.or(": ", ":", ":\t", ":  ", " : ", "\t:", ":\v", ":\x00", ":\r\n ", "")
	return g.or("", " ", "\t", "\x00") + name + colon + value + g.or("", " ", "\t ", "\v", "\x00", ",", ";", "\r\n ", "\r\n\t") + g.crlf()
}

func (g *generator) lengths(n int) []string {
	name := g.or("Content-Length", "content-length", "CONTENT-LENGTH", "Content-Length ", "Content_Length", "Content-Length\v", "Content-Len\x00gth", "XContent-Length", "Content Length")
	right := fmt.Sprint(n)
	value := g.or(right, "+"+right, "-"+right, "0"+right, "00000000000000000000"+right, right+", "+right, fmt.Sprintf("%d, %d", n, n+1), "0x"+fmt.Sprintf("%x", n), right+".0", right+"e0", "",
		"1"+strings.Repeat("0", 20), "18446744073709551616", right+" 0", "\""+right+"\"", right+"_", fmt.Sprint(n+1), fmt.Sprint(max(0, n-1)), "0", "3", right+"\x00", "chunked", "\xb2", "１")
	fields := []string{g.field(name, value)}
	for g.sometimes() {
		fields = append(fields, g.field("Content-Length", g.pick(right, fmt.Sprint(n+1), "0", "", "x")))
	}
	return fields
}

func (g *generator) codings() []string {
	name := g.or("Transfer-Encoding", "transfer-encoding", "TRANSFER-ENCODING", "Transfer-Encoding ", "Transfer_Encoding", "Transfer-Encoding\t", "X-Transfer-Encoding", "Transfer Encoding", "Transfer-\x00Encoding", "Transfer-Encoding\v", "TE")
	value := g.or("chunked", "Chunked", "CHUNKED", "chunked,", ",chunked", "chunked, chunked", "identity", "identity, chunked", "chunked, identity", "gzip, chunked", "chunked, gzip", "xchunked", "chunkedx",
		"chunked;q=1", "\"chunked\"", "'chunked'", "\vchunked", "chunked\x00", "", " chunked", "chunked\t", "\r\n chunked", "x\r\n chunked", "chun\r\n ked", "chunked\r\n x", "cow", "c\x00hunked", "chunKed\x85", "\xa0chunked", "chunked ;", "ch\u017fnked")
	fields := []string{g.field(name, value)}
	for g.sometimes() {
		fields = append(fields, g.field("Transfer-Encoding", g.pick("chunked", "identity", "", "x", "gzip")))
	}
	return fields
}

func (g *generator) extras() (fields []string) {
	fields = append(fields, g.field("X-Own", "1"))
	if !g.sometimes() && g.IntN(6) > 0 {
		return fields
	}
	for range 1 + g.IntN(2) {
		name, value, _ := strings.Cut(g.pick("Connection=close", "Connection=keep-alive", "Connection=Content-Length", "Connection=Transfer-Encoding", "Connection=Host", "Connection=X-Own",
			"Connection=Upgrade, HTTP2-Settings", "Upgrade=h2c", "HTTP2-Settings=AAMAAABkAAQAAP__", "Upgrade=websocket", "Expect=100-continue", "Expect=x", "TE=trailers", "TE=chunked", "Trailer=Content-Length",
			"Proxy-Connection=keep-alive", "Keep-Alive=timeout=5", "X-Long="+strings.Repeat("a", 4000), "X-Http-Method-Override=DELETE", "Content-Encoding=gzip", "Content-Type=text/plain", "X(=1", "X-Nul=\x00", "X-Bell=\a",
			"X-Del=\x7f", "X-High=\xff", "=empty", "X-Forwarded-For=::1", "X-Original-Url=/hidden", "Transfer-Encoding-X=chunked"), "=")
		fields = append(fields, g.field(name, value))
	}
	return fields
}

// chunks frames content in pieces.
func (g *generator) chunks(content string) string {
	var out strings.Builder
	for len(content) > 0 {
		n := min(len(content), 1+g.IntN(len(content)))
		out.WriteString(g.chunkLine(n) + content[:n] + g.or("\r\n", "\n", "\r", "", "\r\n\r\n", "x\r\n", "\r\nx", "\n\r", "  "))
		content = content[n:]
	}
	out.WriteString(g.or("0", "00", "-0", "+0", "0x0", "0 ", " 0", "0;x", "0;x=\"\n\"", "0\x00", "", "000000000000000000000") + g.crlf())
	for g.sometimes() || g.IntN(12) == 0 {
		name, value, _ := strings.Cut(g.pick("X-Sum=1", "Content-Length=5", "Transfer-Encoding=chunked", "Host=b", "X-Own=2", "Connection=close", "X(=1", "=x", "X-Nul=\x00", "Content-Type=x"), "=")
		out.WriteString(g.field(name, value))
	}
	return out.String() + g.or("\r\n", "\n", "\r", "", "\r\r\n", " \r\n")
}

func (g *generator) chunkLine(n int) string {
	size := fmt.Sprintf("%x", n)
	size = g.or(size, strings.ToUpper(size), "0"+size, "0000000000000"+size, "00000000000000000000"+size, "+"+size, "-"+size, "0x"+size, " "+size, size+" ", size+"\t", "1000000000000000"+size, "10000000"+size,
		"f"+size, size+".", size+"_", size+"g", "", "\""+size+"\"", fmt.Sprintf("%x", n+1), fmt.Sprintf("%x", n+2), fmt.Sprintf("%x", max(0, n-1)), fmt.Sprint(n), "fffffffffffffffe", "ffffffff"+size, size+"\x00", size+",")
	extension := ""
	if g.IntN(8) == 0 || g.sometimes() {
		extension = g.pick(";x", ";x=y", ";x=\"y\"", " ;x", "\t;x", "; x = y", ";x=\"a\\\"b\"", ";x=\"a\r\nb\"", ";x\n", ";\n", ";\r", ";x\ry", ";x\x00", ";", ";;", ";x;", ";\xff", ";x=\"", ";"+strings.Repeat("e", 300), ";"+strings.Repeat("e", 5000), " x", "\nx")
	}
	return size + extension + g.crlf()
}
