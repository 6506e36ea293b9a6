package h1

import (
	"bytes"
	"net/http"
)

// Response is a response head. Its slices stay valid until the next Parse on it or the next head read from the Reader.
type Response struct {
	Status int // 100 … 599
	Reason []byte
	Minor  uint8
	Fields Fields

	Framing Framing
	Length  int64 // bytes of content if Framing is Length, else 0
	// ContentLength is the field's value, -1 without one. In an answer to HEAD it tells of content that is not sent.
	ContentLength int64

	Close   bool   // the connection cannot carry another exchange
	Upgrade []byte // the protocol switched to, if Status is 101
}

// Parse reads one response head: status line, fields, final empty line. method is that of the request it answers, which
// decides whether content follows. It returns an *Error; its Status is meaningless here, a proxy answers 502.
func (r *Response) Parse(head []byte, method []byte, limits *Limits) error {
	if len(head) > limits.Head {
		return ErrHeadTooLarge
	}
	end := bytes.IndexByte(head, '\n')
	if end < 1 || head[end-1] != '\r' {
		return ErrLineEnd
	}
	if err := r.parseLine(head[:end-1]); err != nil {
		return err
	}
	fields, found, err := parseFields(head[end+1:], r.Fields[:0], limits.Fields)
	r.Fields = fields
	if err != nil {
		return err
	}
	return r.frame(&found, method)
}

// parseLine reads HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112 §4). The second SP may be missing when
// there is no reason, as many servers write it.
func (r *Response) parseLine(line []byte) error {
	if len(line) < 12 || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return ErrStatusLine
	}
	minor, err := parseVersion(line[:8])
	if err != nil {
		return err
	}
	r.Minor = minor
	if !isDigit(line[9]) || !isDigit(line[10]) || !isDigit(line[11]) {
		return ErrStatusLine
	}
	r.Status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	if r.Status < 100 || r.Status > 599 { // RFC 9110 §15
		return ErrStatusLine
	}
	r.Reason = nil
	if len(line) > 13 {
		if r.Reason = line[13:]; !validValue(r.Reason) {
			return ErrStatusLine
		}
	}
	return nil
}

// frame decides how the content is delimited (RFC 9112 §6.3) and whether the connection lives on (§9.3).
func (r *Response) frame(found *framingFields, method []byte) error {
	r.Framing, r.Length = NoBody, 0
	switch {
	case found.chunked && found.lengths > 0:
		return ErrTwoLengths
	case found.chunked && r.Minor == 0:
		return ErrTransferEncoding
	case r.Status < 200 && (found.chunked || found.length > 0): // RFC 9112 §6.1, RFC 9110 §8.6
		return ErrContentLength
	case r.Status < 200 || r.Status == http.StatusNoContent || r.Status == http.StatusNotModified ||
		string(method) == "HEAD":
	case found.chunked:
		r.Framing = Chunked
	case found.lengths == 0:
		r.Framing = UntilClose
	default:
		r.Framing, r.Length = Length, found.length
	}
	r.ContentLength = -1
	if found.lengths > 0 {
		r.ContentLength = found.length
	}
	// 204 has no content (RFC 9112 §6.3), but one that announces some may have it.
	contradicts := r.Status == http.StatusNoContent && (found.chunked || found.length > 0)
	r.Close = found.close || r.Minor == 0 && !found.keepAlive || r.Framing == UntilClose || contradicts

	r.Upgrade = nil
	if r.Status == http.StatusSwitchingProtocols {
		if !found.upgrade || len(found.upgradeTo) == 0 { // RFC 9110 §15.2.2
			return ErrStatusLine
		}
		r.Upgrade = found.upgradeTo
	}
	return nil
}
