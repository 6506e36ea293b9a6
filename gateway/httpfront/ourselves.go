package httpfront

import (
	"bytes"
	"net/http"
	"strconv"

	"fieldgate/protocol/h1"
)

// findOrigin finds where the request comes from. Only what a trusted peer forwards has to be looked at anew each time.
func (c *connection) findOrigin() error {
	o := &c.origin
	if settings := c.front.settings.Load(); settings != o.settings {
		o.adopt(settings)
	}
	if !o.trusted {
		return nil
	}
	return o.resolve(c.request.Fields)
}

// answerOurselves answers what is asked of the gateway, not of an API: challenges of an ACME server, on the way to HTTPS all
// others, and WebSockets for MQTT. It says whether it did.
func (c *connection) answerOurselves() bool { return c.answerPlain() || c.openSubprotocol() }

// answerPlain answers what is asked on the plain listener, if that is there for the sake of the other one.
func (c *connection) answerPlain() bool {
	settings := c.origin.settings
	if c.origin.secure || settings.Challenge == nil && settings.RedirectPort == 0 {
		return false
	}
	r := &c.request
	if settings.Challenge != nil && bytes.HasPrefix(r.Path, []byte(challengePath)) {
		if answer := settings.Challenge(string(r.Path)); answer != nil {
			c.beginOurs(http.StatusOK)
			c.out = h1.AppendField(c.out, "Content-Type", "application/octet-stream") // RFC 8555 §8.3
			c.finishOurs(answer)
			return true
		}
	}
	if settings.RedirectPort == 0 || c.origin.https {
		return false
	}
	if len(r.Host) == 0 { // RFC 9112 §3.2: as HTTP/1.0 allows
		c.beginOurs(http.StatusBadRequest)
		c.keep = false
		c.front.pipeline.Own(&c.exchange)
		c.answerRefusal(http.StatusBadRequest, "This needs HTTPS, and the request names no host to be sent to.")
		return true
	}
	c.beginOurs(http.StatusPermanentRedirect) // which keeps method and content (RFC 9110 §15.4.9)
	c.out = append(c.out, "Location: https://"...)
	c.out = append(c.out, c.hostName()...)
	if settings.RedirectPort != 443 {
		c.out = strconv.AppendUint(append(c.out, ':'), uint64(settings.RedirectPort), 10)
	}
	if c.out = append(c.out, r.Path...); len(r.Path) == 0 || r.Path[0] != '/' {
		c.out = append(c.out, '/')
	}
	if len(r.Query) > 0 {
		c.out = append(append(c.out, '?'), r.Query...)
	}
	c.out = append(c.out, "\r\n"...)
	c.finishOurs(nil)
	return true
}

// beginOurs begins an answer that no operation stands behind.
func (c *connection) beginOurs(status int) {
	r := &c.request
	c.body.Reset(c.reader, r.Framing, r.Length)
	c.fill()
	c.exchange.Answer.Status = status
	c.accepted, c.keep = false, !r.Close && !c.front.draining.Load()
	c.keep = c.keep && c.mayDiscard()
	c.out = appendDate(h1.AppendStatusLine(c.out[:0], status, nil))
}

func (c *connection) finishOurs(body []byte) {
	out := h1.AppendFraming(c.appendConnection(c.out), h1.Length, int64(len(body)))
	out = append(out, "\r\n"...)
	if !c.head() {
		out = append(out, body...)
	}
	c.finish(out)
	c.front.pipeline.Own(&c.exchange)
}
