package smuggling

import (
	"fmt"
	"strings"
)

// answerOf is the answer of that number to a request of that method: correct, or wrong in the places where gateways were fooled.
func answerOf(number int) (raw string, method string) {
	g := newGenerator(2, number)
	method = g.pick("GET", "GET", "GET", "HEAD", "POST")
	var out strings.Builder
	for g.sometimes() || g.IntN(15) == 0 {
		out.WriteString(g.pick("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), "\r\n"))
	}
	status := g.pick("200", "200", "200", "200", "404", "500", "204", "304", "206")
	line := g.or("HTTP/1.1", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/01.1", "ICY", "", " HTTP/1.1") + g.or(" ", "  ", "\t", "") +
		g.or(status, "99", "600", "1000", "2 0", "+200", "abc", "", "０") + g.or(" Fine", "", " ", "Fine", " F\x00ne", " F\rne", " \xff", " "+strings.Repeat("x", 40000), " \x1b[1m")
	out.WriteString(line + g.crlf())

	content := g.answerContent()
	fields := []string{g.field("X-Own", fmt.Sprint(number))}
	switch g.IntN(8) {
	case 0: // until close
	case 1, 2, 3, 4:
		fields = append(fields, g.lengths(len(content))...)
	default:
		fields = append(fields, g.codings()...)
		if g.sometimes() {
			fields = append(fields, g.lengths(len(content))...)
		}
		content = g.chunks(content)
	}
	for g.sometimes() || g.IntN(6) == 0 {
		name, value, _ := strings.Cut(g.pick("Connection=close", "Connection=keep-alive", "Connection=X-Own", "Connection=Content-Length", "Connection=Transfer-Encoding", "Upgrade=h2c", "Keep-Alive=timeout=5", "Trailer=X", "TE=chunked",
			"Content-Type=text/plain", "Content-Encoding=gzip", "X-Nul=\x00", "X-Bell=\a", "X-Cr=a\rb", "X(=1", "=x", "X-Long="+strings.Repeat("a", 40000), "Proxy-Authenticate=Basic", "Content-Type=multipart/byteranges; boundary=x", "Set-Cookie=a=b"), "=")
		fields = append(fields, g.field(name, value))
	}
	if g.sometimes() {
		fields = append(fields, strings.Repeat("X-Many: 1\r\n", 200))
	}
	g.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	out.WriteString(strings.Join(fields, "") + g.crlf())
	if method == "HEAD" && g.IntN(4) > 0 || (status == "204" || status == "304") && g.IntN(2) == 0 {
		content = ""
	}
	out.WriteString(content)
	poison := "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	out.WriteString(g.or("", poison, "\r\n", "x", "\r\n"+poison, "HTTP/1.1 200 OK\r\n\r\npoison", "HTTP/1.1 100 Continue\r\n\r\n"))
	raw = out.String()
	switch {
	case g.Float64() < g.bad/2:
		raw = string(g.scramble([]byte(raw)))
	case g.Float64() < g.bad/2:
		raw = raw[:g.IntN(len(raw))]
	}
	return raw, method
}

func (g *generator) answerContent() string {
	return g.pick("ok", "", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", strings.Repeat("x", 5000), strings.Repeat("y", 100_000), "0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
}
