package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"fieldgate/contract/schema"
	"fieldgate/protocol/coap"
)

func hexBytes(digits string) ([]byte, error) { return hex.DecodeString(digits) }

// coapAnswer is an answer in JSON. Of Payload and PayloadBase64 one is there, of CBOR both.
type coapAnswer struct {
	Code          string    `json:"code"`
	Meaning       string    `json:"meaning"`
	ContentFormat string    `json:"contentFormat,omitempty"`
	Payload       any       `json:"payload,omitempty"` // text, or the value that JSON or CBOR holds
	PayloadBase64 string    `json:"payloadBase64,omitempty"`
	ETag          string    `json:"etag,omitempty"` // hexadecimal
	MaxAge        *uint32   `json:"maxAge,omitempty"`
	Location      string    `json:"location,omitempty"`
	Sequence      *uint32   `json:"sequence,omitempty"` // of a notification
	Micros        int64     `json:"micros,omitempty"`
	Time          time.Time `json:"time,omitzero"` // of a notification
}

func answerOf(reply *coap.Reply) *coapAnswer {
	a := &coapAnswer{Code: reply.Code.String(), Meaning: codeNames[reply.Code], Location: locationOf(reply)}
	format, hasFormat := reply.Uint(coap.ContentFormat)
	if hasFormat {
		a.ContentFormat = mediaTypeOfFormat(format)
	}
	if tag, ok := reply.Option(coap.ETag); ok {
		a.ETag = hex.EncodeToString(tag)
	}
	if age, ok := reply.Uint(coap.MaxAge); ok {
		a.MaxAge = &age
	}
	if sequence, ok := reply.Uint(coap.Observe); ok {
		a.Sequence = &sequence
	}
	switch value := asJSON(reply); {
	case len(reply.Body) == 0:
	case value != nil:
		a.Payload = json.RawMessage(value)
		if strings.HasSuffix(a.ContentFormat, "cbor") {
			a.PayloadBase64 = base64.StdEncoding.EncodeToString(reply.Body)
		}
	case utf8.Valid(reply.Body):
		a.Payload = string(reply.Body)
	default:
		a.PayloadBase64 = base64.StdEncoding.EncodeToString(reply.Body)
	}
	return a
}

// asJSON is the value that a body of JSON or CBOR holds; nil where it is neither.
func asJSON(reply *coap.Reply) []byte {
	format, ok := reply.Uint(coap.ContentFormat)
	media := mediaTypeOfFormat(format)
	switch {
	case !ok:
	case strings.HasSuffix(media, "cbor"):
		if value, err := schema.JSONFromCBOR(nil, reply.Body, nil); err == nil {
			return value
		}
	case strings.HasSuffix(media, "json") && json.Valid(reply.Body):
		return reply.Body
	}
	return nil
}

func locationOf(reply *coap.Reply) string {
	var path, query []string
	for it := reply.Iterate(); it.Next(); {
		switch it.Number {
		case coap.LocationPath:
			path = append(path, string(it.Value))
		case coap.LocationQuery:
			query = append(query, string(it.Value))
		}
	}
	location := ""
	if len(path) > 0 {
		location = "/" + strings.Join(path, "/")
	}
	if len(query) > 0 {
		location += "?" + strings.Join(query, "&")
	}
	return location
}

// printReply writes what the resource holds to out, and all else to notes. An answer of class 4 or 5 is an error.
func printReply(c *cli, out, notes io.Writer, reply *coap.Reply, took time.Duration) error {
	if c.output == formatJSON {
		a := answerOf(reply)
		a.Micros = took.Microseconds()
		if err := printJSON(out, a); err != nil {
			return err
		}
		if !reply.Code.IsSuccess() {
			return errSilent
		}
		return nil
	}
	if !reply.Code.IsSuccess() {
		return refusal(reply)
	}
	fmt.Fprintln(notes, replyLine(reply, took))
	if len(reply.Body) == 0 {
		return nil
	}
	if !isTerminal(out) {
		_, err := out.Write(reply.Body)
		return err
	}
	_, err := fmt.Fprintln(out, shownBody(reply))
	return err
}

// replyLine tells all but the body.
func replyLine(reply *coap.Reply, took time.Duration) string {
	a := answerOf(reply)
	parts := []string{codeText(reply.Code)}
	if a.ContentFormat != "" {
		parts = append(parts, a.ContentFormat)
	}
	if len(reply.Body) > 0 {
		parts = append(parts, bytesText(int64(len(reply.Body))))
	}
	if a.Location != "" {
		parts = append(parts, "location "+printable(a.Location))
	}
	if a.ETag != "" {
		parts = append(parts, "ETag 0x"+a.ETag)
	}
	if a.MaxAge != nil {
		parts = append(parts, fmt.Sprintf("fresh for %d s", *a.MaxAge))
	}
	return strings.Join(append(parts, micros(took.Microseconds())), ", ")
}

// shownBody is a body for a person.
func shownBody(reply *coap.Reply) string {
	if value := asJSON(reply); value != nil {
		var line bytes.Buffer
		if json.Compact(&line, value) == nil {
			return printable(line.String())
		}
	}
	if !utf8.Valid(reply.Body) {
		return fmt.Sprintf("(%s that are no text; write them to a file with >)", bytesText(int64(len(reply.Body))))
	}
	var lines []string
	for line := range strings.Lines(string(reply.Body)) {
		lines = append(lines, printable(strings.TrimRight(line, "\r\n")))
	}
	return strings.Join(lines, "\n")
}

// refusal says in words why a request was refused, and what to do.
func refusal(reply *coap.Reply) error {
	text := codeText(reply.Code)
	if detail := refusalDetail(reply); detail != "" {
		text += ": " + printable(detail)
	}
	if age, ok := reply.Uint(coap.MaxAge); ok && (reply.Code == coap.TooManyRequests || reply.Code == coap.ServiceUnavailable) {
		text = strings.TrimSuffix(text, ".") + fmt.Sprintf(". It may be tried again in %d s.", age)
	}
	if remedy := codeRemedies[reply.Code]; remedy != "" {
		text = strings.TrimSuffix(text, ".") + ". " + remedy
	}
	return errors.New(text)
}

// refusalDetail is what the answer says: problem details (RFC 9290 section 2), or a diagnostic text (RFC 7252 section 5.5.2).
func refusalDetail(reply *coap.Reply) string {
	format, ok := reply.Uint(coap.ContentFormat)
	if (!ok || format == coap.TextPlain) && utf8.Valid(reply.Body) {
		return string(reply.Body)
	}
	value := asJSON(reply)
	if value == nil {
		return ""
	}
	if format != coap.ConciseProblemCBOR {
		return string(value)
	}
	var problem struct {
		Title    string `json:"-1"`
		Detail   string `json:"-2"`
		Instance string `json:"-3"`
	}
	if json.Unmarshal(value, &problem) != nil {
		return string(value)
	}
	text := strings.TrimSuffix(problem.Title, ".")
	if strings.EqualFold(text, codeNames[reply.Code]) {
		text = "" // it has been said
	}
	if problem.Detail != "" {
		text = strings.TrimPrefix(text+". "+problem.Detail, ". ")
	}
	if problem.Instance != "" {
		text = strings.TrimSuffix(text, ".") + " (" + problem.Instance + ")"
	}
	return text
}
