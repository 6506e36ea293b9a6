package httpfront

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
)

// answerProblem writes a problem as RFC 9457 says, with the fields that belong to its status.
func (c *connection) answerProblem(problem *fieldgate.Problem) {
	x := &c.exchange
	problem = c.blame(problem)
	x.Fail(problem)
	if problem.Cause != nil {
		c.front.logger.Debug("exchange failed", "instance", c.front.pipeline.Instance(x), "problem", string(problem.Code), "cause", problem.Cause)
	}
	if c.speaksGRPC() {
		c.answerGRPC(problem)
		return
	}
	c.keep = c.keep && c.mayDiscard()
	out := h1.AppendStatusLine(c.out[:0], problem.Status(), nil)
	out = appendDate(out)
	switch problem.Status() {
	case http.StatusUnauthorized: // RFC 9110 §11.6.1, RFC 6750 §3
		if len(x.Secret) == 0 {
			out = append(out, "WWW-Authenticate: Bearer realm=\"fieldgate\"\r\n"...)
		} else {
			out = append(out, "WWW-Authenticate: Bearer realm=\"fieldgate\", error=\"invalid_token\"\r\n"...)
		}
	case http.StatusMethodNotAllowed: // RFC 9110 §10.2.1
		out = h1.AppendField(out, "Allow", problem.Allow)
	}
	if problem.RetryAfter > 0 { // RFC 9110 §10.2.3, whole seconds
		out = appendNumber(out, "Retry-After", int64((problem.RetryAfter+time.Second-1)/time.Second))
	}
	out = c.appendVerdict(out)
	c.out = out
	c.finishProblem(problem.AppendJSON(nil, c.front.pipeline.Instance(x)))
}

// blame is the problem that an exchange ends with which has no answer yet. A caller who leaves over HTTP/2 or HTTP/3 takes its call with
// it, which then looks like a failure of the upstream, or of its content.
func (c *connection) blame(problem *fieldgate.Problem) *fieldgate.Problem {
	switch problem.Code {
	case fieldgate.ProblemUpstreamTimeout, fieldgate.ProblemUpstreamUnreachable, fieldgate.ProblemUpstreamInvalid, fieldgate.ProblemBadRequest:
		if c.stream != nil && c.stream.left() {
			return errCallerLeft
		}
	}
	return problem
}

// answerRefusal answers what breaks HTTP itself, for which HTTP has more statuses than problems have. Its exchange has begun.
func (c *connection) answerRefusal(status int, reason string) {
	out := h1.AppendStatusLine(c.out[:0], status, nil)
	out = appendDate(out)
	if status == http.StatusUpgradeRequired { // RFC 6455 §4.4
		out = append(out, "Sec-WebSocket-Version: 13\r\n"...)
	}
	c.out = c.appendRequestID(out)
	body := append([]byte(nil), `{"type":"about:blank","title":`...) // RFC 9457 §4.2.1
	body = fieldgate.AppendJSONString(body, http.StatusText(status))
	body = strconv.AppendInt(append(body, `,"status":`...), int64(status), 10)
	body = fieldgate.AppendJSONString(append(body, `,"detail":`...), reason)
	body = fieldgate.AppendJSONString(append(body, `,"instance":`...), c.front.pipeline.Instance(&c.exchange))
	c.finishProblem(append(body, '}'))
}

// finishProblem ends an answer whose content is a problem and writes it.
func (c *connection) finishProblem(body []byte) {
	out := append(c.out, "Content-Type: "+fieldgate.ProblemMediaType+"\r\nCache-Control: no-store\r\n"...)
	out = c.appendConnection(out)
	out = h1.AppendFraming(out, h1.Length, int64(len(body)))
	out = append(out, "\r\n"...)
	if !c.head() {
		out = append(out, body...)
		c.exchange.BytesOut = uint64(len(body))
	}
	c.finish(out)
}

// answerBuffered writes the Answer that the pipeline made.
func (c *connection) answerBuffered() {
	answer := &c.exchange.Answer
	out := h1.AppendStatusLine(c.out[:0], answer.Status, nil)
	dated := false
	for i := range answer.Fields {
		field := &answer.Fields[i]
		if c.hidesFields() && c.hidesField([]byte(field.Name)) {
			continue
		}
		dated = dated || h1.EqualFold(field.Name, "Date")
		out = h1.AppendField(out, field.Name, field.Value)
	}
	if !dated {
		out = appendDate(out)
	}
	if answer.ContentType != "" {
		out = h1.AppendField(out, "Content-Type", answer.ContentType)
	}
	if answer.Location != "" {
		out = h1.AppendField(out, "Location", answer.Location)
	}
	out = c.appendVerdict(out)
	out = c.appendConnection(out)
	switch {
	case answer.Status == http.StatusNoContent, answer.Status == http.StatusNotModified:
		out = append(out, "\r\n"...)
	case c.head():
		if len(answer.Body) > 0 {
			out = h1.AppendFraming(out, h1.Length, int64(len(answer.Body)))
		}
		c.exchange.BytesOut = 0
		out = append(out, "\r\n"...)
	default:
		out = h1.AppendFraming(out, h1.Length, int64(len(answer.Body)))
		out = append(out, "\r\n"...)
		if len(answer.Body) > keepOut {
			if c.write(out) != nil || c.finishWrite(answer.Body) != nil {
				c.keep = false
			}
			return
		}
		out = append(out, answer.Body...)
	}
	c.finish(out)
}

// finish writes a whole answer and settles what becomes of the connection.
func (c *connection) finish(out []byte) {
	c.out = out
	if c.finishWrite(out) != nil {
		c.keep = false
		return
	}
	switch {
	case c.stream != nil: // what is left of the request is the carrier's business
	case c.keep:
		c.discard()
	case c.request.Method == nil || c.unread():
		c.linger()
	}
}

// unread reports whether the client has sent something that nobody will read.
func (c *connection) unread() bool { return !c.body.Ended() || len(c.reader.Buffered()) > 0 }

func (c *connection) head() bool { return string(c.request.Method) == "HEAD" }

// appendConnection says whether the connection lives on (RFC 9112 §9.3).
func (c *connection) appendConnection(out []byte) []byte {
	switch {
	case c.stream != nil: // RFC 9113 §8.2.2
	case !c.keep:
		return append(out, "Connection: close\r\n"...)
	case c.request.Minor == 0:
		return append(out, "Connection: keep-alive\r\n"...)
	}
	return out
}

// appendVerdict tells the caller where it stands with limits, and that a version is on its way out.
func (c *connection) appendVerdict(out []byte) []byte {
	x := &c.exchange
	if port := c.front.config.HTTP3Port; port != 0 && c.origin.secure { // RFC 7838
		out = append(out, `Alt-Svc: h3=":`...)
		out = append(strconv.AppendUint(out, uint64(port), 10), "\"; ma=86400\r\n"...)
	}
	out = x.AppendCORS(c.appendRequestID(out))
	if limit := &x.Limit; limit.Count > 0 { // draft-ietf-httpapi-ratelimit-headers
		out = append(out, `RateLimit-Policy: "default";q=`...)
		out = strconv.AppendInt(out, int64(limit.Count), 10)
		out = append(out, ";w="...)
		out = strconv.AppendInt(out, int64(max(limit.Period/time.Second, 1)), 10)
		out = append(out, "\r\nRateLimit: \"default\";r="...)
		out = strconv.AppendInt(out, int64(limit.Remaining), 10)
		out = append(out, ";t="...)
		out = strconv.AppendInt(out, int64((limit.Reset+time.Second-1)/time.Second), 10)
		out = append(out, "\r\n"...)
	}
	return x.AppendVersionFields(out)
}

func appendNumber(out []byte, name string, value int64) []byte {
	out = append(out, name...)
	out = strconv.AppendInt(append(out, ": "...), value, 10)
	return append(out, "\r\n"...)
}

// date is the Date field line of one second.
type date struct {
	second int64
	line   []byte
}

var currentDate atomic.Pointer[date]

// appendDate appends the Date field (RFC 9110 §6.6.1), formatted once a second.
func appendDate(out []byte) []byte {
	now := time.Now()
	d := currentDate.Load()
	if d == nil || d.second != now.Unix() {
		d = &date{second: now.Unix()}
		d.line = append(now.UTC().AppendFormat([]byte("Date: "), http.TimeFormat), "\r\n"...)
		currentDate.Store(d)
	}
	return append(out, d.line...)
}
