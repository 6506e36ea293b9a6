package upstream

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/protocol/coap"
)

// option is one of a message in a table: a number and its value.
type option struct {
	number coap.OptionNumber
	value  string
}

func unsigned(number coap.OptionNumber, value uint32) option {
	var options coap.Options
	options.AddUint(number, value)
	_, encoded := options.At(0)
	return option{number, string(encoded)}
}

// mapped are the fields of HTTP that something of CoAP becomes; all others of them must be absent.
var mapped = []string{"Content-Type", "ETag", "Cache-Control", "Retry-After", "WWW-Authenticate", "Location"}

// Responses of a service to callers of HTTP: codes, options and payloads that are unusual, missing or wrong.
func TestCoAPResponseMapping(t *testing.T) {
	type fields map[string]string
	tag := option{coap.ETag, "\x5f\x1c"}
	const fresh = "max-age=60" // RFC 7252 §5.10.5, without Max-Age
	tests := []struct {
		clause  string
		method  string // empty: GET
		given   []Field
		code    coap.Code
		options []option
		body    string

		status int // 0: the answer is of no use
		fields fields
		want   string // body
	}{
		// Codes.
		{clause: "RFC 8075 §7, 2.01", method: "POST", code: coap.Created, status: 201},
		{clause: "RFC 8075 §7, 2.01 with a location", method: "POST", code: coap.Created, status: 201, fields: fields{"Location": "/a/b%20c?d=1&e"},
			options: []option{{coap.LocationPath, "a"}, {coap.LocationPath, "b c"}, {coap.LocationQuery, "d=1"}, {coap.LocationQuery, "e"}}},
		{clause: "RFC 7252 §5.10.7: a location without a path", method: "POST", code: coap.Created, options: []option{{coap.LocationQuery, "d"}}, status: 201, fields: fields{"Location": "/?d"}},
		{clause: "RFC 7252 §5.9.1.1: only 2.01 has a location", method: "PUT", code: coap.Changed, options: []option{{coap.LocationPath, "a"}}, status: 204},
		{clause: "RFC 8075 §7, 2.02 without content", method: "DELETE", code: coap.Deleted, status: 204},
		{clause: "RFC 8075 §7, 2.02 with content", method: "DELETE", code: coap.Deleted, body: "bye", status: 200, want: "bye"},
		{clause: "RFC 8075 §7, 2.04 without content", method: "PUT", code: coap.Changed, status: 204},
		{clause: "RFC 8075 §7, 2.04 with content", method: "PUT", code: coap.Changed, options: []option{unsigned(coap.ContentFormat, 0)}, body: "ok", status: 200,
			fields: fields{"Content-Type": "text/plain; charset=utf-8"}, want: "ok"},
		{clause: "RFC 8075 §7, 2.05", code: coap.Content, body: "x", status: 200, fields: fields{"Cache-Control": fresh}, want: "x"},
		{clause: "RFC 8075 §7, 2.05 without content", code: coap.Content, status: 200, fields: fields{"Cache-Control": fresh}},
		{clause: "RFC 9110 §9.3.2: HEAD has no content", method: "HEAD", code: coap.Content, body: "x", status: 200, fields: fields{"Cache-Control": fresh}},
		{clause: "RFC 7252 §5.9.1.3: 2.03 to a tag that was sent", given: []Field{{Name: "If-None-Match", Value: `"5f1c"`}}, code: coap.Valid, options: []option{tag}, status: 304,
			fields: fields{"ETag": `"5f1c"`, "Cache-Control": fresh}},
		{clause: "RFC 7252 §5.9.1.3: 2.03 to nobody who has anything", code: coap.Valid, options: []option{tag}},
		{clause: "RFC 7959 §2.9.1: 2.31 is no final response", method: "PUT", code: coap.Continue},
		{clause: "RFC 7252 §5.8: unknown 2.xx is 2.00", code: 2<<5 | 6, body: "x", status: 200, want: "x"},
		{clause: "RFC 7252 §5.8: unknown 4.xx is 4.00", code: 4<<5 | 30, status: 400},
		{clause: "RFC 7252 §5.8: unknown 5.xx is 5.00", code: 5<<5 | 30, status: 500},
		{clause: "RFC 8075 §7, 4.00", code: coap.BadRequest, status: 400},
		{clause: "RFC 9110 §15.5.2: 401 has a challenge", code: coap.Unauthorized, status: 401, fields: fields{"WWW-Authenticate": "CoAP"}},
		{clause: "RFC 8075 §7, 4.02", code: coap.BadOption, status: 400},
		{clause: "RFC 8075 §7, 4.03", code: coap.Forbidden, status: 403},
		{clause: "RFC 8075 §7, 4.04", code: coap.NotFound, status: 404},
		{clause: "RFC 8075 §7, 4.05", code: coap.MethodNotAllowed, status: 405},
		{clause: "RFC 8075 §7, 4.06", code: coap.NotAcceptable, status: 406},
		{clause: "RFC 8132 §2, 4.09", method: "PATCH", code: coap.Conflict, status: 409},
		{clause: "RFC 8075 §7, 4.12", method: "PUT", code: coap.PreconditionFailed, status: 412},
		{clause: "RFC 8075 §7, 4.13", method: "PUT", code: coap.RequestEntityTooLarge, status: 413},
		{clause: "RFC 8075 §7, 4.15", method: "PUT", code: coap.UnsupportedContentFormat, status: 415},
		{clause: "RFC 8132 §2, 4.22", method: "PATCH", code: coap.UnprocessableEntity, status: 422},
		{clause: "RFC 8516 §4: Max-Age says when to come again", code: coap.TooManyRequests, options: []option{unsigned(coap.MaxAge, 7)}, status: 429, fields: fields{"Retry-After": "7"}},
		{clause: "RFC 8516 §4, without Max-Age", code: coap.TooManyRequests, status: 429},
		{clause: "RFC 8075 §7, 5.00", code: coap.InternalServerError, status: 500},
		{clause: "RFC 8075 §7, 5.01", code: coap.NotImplemented, status: 501},
		{clause: "RFC 8075 §7, 5.02", code: coap.BadGateway, status: 502},
		{clause: "RFC 7252 §5.9.3.4: Max-Age says when to come again", code: coap.ServiceUnavailable, options: []option{unsigned(coap.MaxAge, 30)}, status: 503, fields: fields{"Retry-After": "30"}},
		{clause: "RFC 8075 §7, 5.04", code: coap.GatewayTimeout, status: 504},
		{clause: "RFC 8075 §7, 5.05", code: coap.ProxyingNotSupported, status: 502},
		{clause: "RFC 8768 §3, 5.08", code: coap.HopLimitReached, status: 508},

		// Options.
		{clause: "RFC 7252 §5.4.1: a critical option that is not understood", code: coap.Content, options: []option{{65001, "x"}}, body: "x"},
		{clause: "RFC 7252 §5.4.1: a critical option in an error", code: coap.NotFound, options: []option{{65001, "x"}}},
		{clause: "RFC 7252 §5.4.1: an elective option that is not understood", code: coap.Content, options: []option{{65000, "x"}}, body: "x", status: 200, fields: fields{"Cache-Control": fresh}, want: "x"},
		{clause: "RFC 7252 §5.10.6: a tag of 8 bytes", code: coap.Content, options: []option{{coap.ETag, "\x00\x01\x02\x03\x04\x05\xfe\xff"}}, status: 200,
			fields: fields{"ETag": `"000102030405feff"`, "Cache-Control": fresh}},
		{clause: "RFC 7252 §5.10: a tag longer than 8 bytes is one that is not understood, and elective", code: coap.Content, options: []option{{coap.ETag, "123456789"}}, status: 200, fields: fields{"Cache-Control": fresh}},
		{clause: "RFC 7252 §5.10.5: Max-Age 0", code: coap.Content, options: []option{unsigned(coap.MaxAge, 0)}, status: 200, fields: fields{"Cache-Control": "max-age=0"}},
		{clause: "RFC 7252 §5.10.5: the largest Max-Age", code: coap.Content, options: []option{unsigned(coap.MaxAge, 1<<32-1)}, status: 200, fields: fields{"Cache-Control": "max-age=4294967295"}},
		{clause: "RFC 7252 §5.9.2.5: an error has a Max-Age, too", code: coap.NotFound, options: []option{unsigned(coap.MaxAge, 9)}, status: 404, fields: fields{"Cache-Control": "max-age=9"}},

		// Payloads.
		{clause: "RFC 8075 §6.1: a format of the registry", code: coap.Content, options: []option{unsigned(coap.ContentFormat, 112)}, body: "\x80", status: 200,
			fields: fields{"Content-Type": "application/senml+cbor", "Cache-Control": fresh}, want: "\x80"},
		{clause: "RFC 8075 §6.2: a format that nobody knows", code: coap.Content, options: []option{unsigned(coap.ContentFormat, 65000)}, body: "x", status: 200,
			fields: fields{"Content-Type": "application/coap-payload;cf=65000", "Cache-Control": fresh}, want: "x"},
		{clause: "RFC 8075 §6.6: a diagnostic payload", code: coap.BadRequest, body: "no such knob", status: 400, fields: fields{"Content-Type": "text/plain; charset=utf-8"}, want: "no such knob"},
		{clause: "RFC 7252 §5.5.2: what is no UTF-8 is no diagnostic text", code: coap.BadRequest, body: "\xff", status: 400, want: "\xff"},
		{clause: "RFC 9290 §2: problem details", code: coap.BadRequest, options: []option{unsigned(coap.ContentFormat, coap.ConciseProblemCBOR)}, body: "\xa1\x20\x62No", status: 400,
			fields: fields{"Content-Type": fieldgate.ProblemMediaType}, want: `{"status":400,"title":"No"}`},
		{clause: "RFC 9290 §2: what only says that it is problem details", code: coap.BadRequest, options: []option{unsigned(coap.ContentFormat, coap.ConciseProblemCBOR)}, body: "\xff", status: 400,
			fields: fields{"Content-Type": "application/concise-problem-details+cbor"}, want: "\xff"},
	}
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{coapService(t, func(request *coap.Request, response *coap.Response) func(context.Context) {
		number, err := strconv.Atoi(request.Path()[1:])
		if err != nil {
			return nil
		}
		test := &tests[number]
		response.Trusted, response.Code, response.Body = true, test.code, []byte(test.body)
		for _, o := range test.options {
			response.Options.Add(o.number, []byte(o.value))
		}
		return nil
	})}})
	for i, test := range tests {
		t.Run(test.clause, func(t *testing.T) {
			method := test.method
			if method == "" {
				method = "GET"
			}
			r, err := u.Do(t.Context(), &Request{Method: method, Target: fmt.Sprintf("/%d", i), Fields: test.given})
			if test.status == 0 {
				if code := codeOf(err); code != fieldgate.ProblemUpstreamInvalid {
					t.Fatalf("%+v, %v", r, err)
				}
				return
			}
			if err != nil || r.Status != test.status || string(r.Body) != test.want {
				t.Fatalf("%+v, %v", r, err)
			}
			for _, name := range mapped {
				if got := r.Field(name); got != test.fields[name] {
					t.Errorf("%s: %q, want %q", name, got, test.fields[name])
				}
			}
		})
	}
}

// Requests of callers of HTTP, as a service gets them.
func TestCoAPRequestMapping(t *testing.T) {
	seen := make(chan string, 1)
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{coapService(t, func(request *coap.Request, response *coap.Response) func(context.Context) {
		var text strings.Builder
		text.WriteString(request.Code.String())
		for it := request.Iterate(); it.Next(); {
			switch it.Number {
			case coap.URIPath:
				fmt.Fprintf(&text, " /%s", it.Value)
			case coap.URIQuery:
				fmt.Fprintf(&text, " ?%s", it.Value)
			case coap.HopLimit:
			default:
				fmt.Fprintf(&text, " %d=%s", it.Number, hex.EncodeToString(it.Value))
			}
		}
		seen <- text.String()
		response.Code = coap.Changed
		return nil
	})}})
	field := func(name, value string) []Field { return []Field{{Name: name, Value: value}} }
	for _, test := range []struct {
		clause, method, target string
		fields                 []Field
		body                   string
		want                   string // empty: refused with a status 4xx
	}{
		{clause: "RFC 8075 §7, GET", method: "GET", target: "/a", want: "GET /a"},
		{clause: "RFC 8075 §7, HEAD", method: "HEAD", target: "/a", want: "GET /a"},
		{clause: "RFC 8075 §7, POST", method: "POST", target: "/a", body: "x", want: "POST /a"},
		{clause: "RFC 8075 §7, PUT", method: "PUT", target: "/a", body: "x", want: "PUT /a"},
		{clause: "RFC 8075 §7, DELETE", method: "DELETE", target: "/a", want: "DELETE /a"},
		{clause: "RFC 8132 §6, PATCH that changes nothing when it comes again", method: "PATCH", target: "/a", fields: field("Content-Type", "application/merge-patch+json"), body: "{}", want: "iPATCH /a 12=34"},
		{clause: "RFC 8132 §6, PATCH", method: "PATCH", target: "/a", fields: field("Content-Type", "application/json-patch+json"), body: "[]", want: "PATCH /a 12=33"},
		{clause: "RFC 8075 §7: a method that CoAP has not", method: "OPTIONS", target: "/a"},
		{clause: "RFC 7252 §6.4: the root", method: "GET", target: "/", want: "GET"},
		{clause: "RFC 7252 §6.4: empty segments", method: "GET", target: "/a//", want: "GET /a / /"},
		{clause: "RFC 7252 §6.4: escapes are taken out", method: "GET", target: "/a%2Fb?c=%26&d", want: "GET /a/b ?c=& ?d"},
		{clause: "RFC 7252 §5.10.1: a segment of 256 bytes", method: "GET", target: "/" + strings.Repeat("x", 256)},
		{clause: "RFC 7252 §5.10.1: a dot segment", method: "GET", target: "/a/../b"},
		{clause: "RFC 8075 §6.1: parameters of a media type", method: "PUT", target: "/a", fields: field("Content-Type", "application/json; charset=utf-8"), body: "{}", want: "PUT /a 12=32"},
		{clause: "RFC 8075 §6.2: a format by its number", method: "PUT", target: "/a", fields: field("Content-Type", "application/coap-payload;cf=65000"), body: "x", want: "PUT /a 12=fde8"},
		{clause: "RFC 8075 §6.2: no number", method: "PUT", target: "/a", fields: field("Content-Type", "application/coap-payload;cf=65536"), body: "x"},
		{clause: "RFC 8075 §6.1: a media type without a format", method: "PUT", target: "/a", fields: field("Content-Type", "application/pdf"), body: "x"},
		{clause: "RFC 8075 §6.4: a content coding", method: "PUT", target: "/a", fields: field("Content-Encoding", "gzip"), body: "x"},
		{clause: "RFC 7252 §5.10.4: one type is accepted", method: "GET", target: "/a", fields: field("Accept", "application/cbor"), want: "GET /a 17=3c"},
		{clause: "RFC 7252 §5.10.4: of several the service chooses", method: "GET", target: "/a", fields: field("Accept", "application/cbor, application/json"), want: "GET /a"},
		{clause: "RFC 9110 §12.4.2: what is not accepted", method: "GET", target: "/a", fields: field("Accept", "application/cbor, text/plain;q=0"), want: "GET /a 17=3c"},
		{clause: "RFC 7252 §5.10.4: anything", method: "GET", target: "/a", fields: field("Accept", "*/*"), want: "GET /a"},
		{clause: "RFC 7252 §5.10.6.2: tags of a caller", method: "GET", target: "/a", fields: field("If-None-Match", `"5f1c", W/"ab"`), want: "GET 4=5f1c 4=ab /a"},
		{clause: "RFC 7252 §5.10.6.2: a tag of another service stays what it is", method: "GET", target: "/a", fields: field("If-None-Match", `"v1"`), want: "GET 4=7631 /a"},
		{clause: "RFC 7252 §5.10.8.2: create", method: "PUT", target: "/a", fields: field("If-None-Match", "*"), body: "x", want: "PUT 5= /a"},
		{clause: "RFC 7252 §5.10.8.2: a tag that must not be there", method: "PUT", target: "/a", fields: field("If-None-Match", `"5f1c"`), body: "x"},
		{clause: "RFC 7252 §5.10.8.1: a tag that must be there", method: "PUT", target: "/a", fields: field("If-Match", `"5f1c"`), body: "x", want: "PUT 1=5f1c /a"},
		{clause: "RFC 7252 §5.10.8.1: something must be there", method: "DELETE", target: "/a", fields: field("If-Match", "*"), want: "DELETE 1= /a"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			r, err := u.Do(t.Context(), &Request{Method: test.method, Target: test.target, Fields: test.fields, Body: bytes.Clone([]byte(test.body))})
			if test.want == "" {
				if err == nil || codeOf(err).Status()/100 != 4 {
					t.Fatalf("%+v, %v; want a refusal", r, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := <-seen; got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
