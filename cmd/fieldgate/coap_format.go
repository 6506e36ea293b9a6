package main

import (
	"fmt"
	"strconv"
	"strings"

	"fieldgate/protocol/coap"
)

// contentFormat is a flag with a CoAP content format.
type contentFormat struct {
	number uint32
	set    bool
}

const contentFormatUsage = "json, cbor, text, octet-stream, link-format, senml+json, senml+cbor or a number of the CoAP Content-Formats registry"

// contentFormats are those that have a name here.
var contentFormats = []struct {
	number    uint32
	name      string
	mediaType string
}{
	{coap.TextPlain, "text", "text/plain"},
	{coap.LinkFormat, "link-format", "application/link-format"},
	{coap.XML, "xml", "application/xml"},
	{coap.OctetStream, "octet-stream", "application/octet-stream"},
	{coap.JSON, "json", "application/json"},
	{coap.JSONPatch, "json-patch", "application/json-patch+json"},
	{coap.MergePatch, "merge-patch", "application/merge-patch+json"},
	{coap.CBOR, "cbor", "application/cbor"},
	{coap.SenMLJSON, "senml+json", "application/senml+json"},
	{coap.SenMLCBOR, "senml+cbor", "application/senml+cbor"},
	{coap.ConciseProblemCBOR, "problem+cbor", "application/concise-problem-details+cbor"},
}

func (f *contentFormat) Type() string { return "FORMAT" }

func (f *contentFormat) String() string {
	if !f.set {
		return ""
	}
	return mediaTypeOfFormat(f.number)
}

func (f *contentFormat) Set(text string) error {
	for _, known := range contentFormats {
		if text == known.name || text == known.mediaType {
			f.number, f.set = known.number, true
			return nil
		}
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("it is %s", contentFormatUsage)
	}
	f.number, f.set = uint32(number), true
	return nil
}

func (f *contentFormat) isCBOR() bool { return strings.HasSuffix(mediaTypeOfFormat(f.number), "cbor") }

func mediaTypeOfFormat(number uint32) string {
	for _, known := range contentFormats {
		if known.number == number {
			return known.mediaType
		}
	}
	return fmt.Sprintf("content format %d", number)
}

// codeNames are those of RFC 7252 section 5.9, RFC 7959 section 2.9, RFC 8132 section 3, RFC 8516 and RFC 8768.
var codeNames = map[coap.Code]string{
	coap.Created: "Created", coap.Deleted: "Deleted", coap.Valid: "Valid", coap.Changed: "Changed", coap.Content: "Content", coap.Continue: "Continue",
	coap.BadRequest: "Bad Request", coap.Unauthorized: "Unauthorized", coap.BadOption: "Bad Option", coap.Forbidden: "Forbidden", coap.NotFound: "Not Found",
	coap.MethodNotAllowed: "Method Not Allowed", coap.NotAcceptable: "Not Acceptable", coap.RequestEntityIncomplete: "Request Entity Incomplete",
	coap.Conflict: "Conflict", coap.PreconditionFailed: "Precondition Failed", coap.RequestEntityTooLarge: "Request Entity Too Large",
	coap.UnsupportedContentFormat: "Unsupported Content-Format", coap.UnprocessableEntity: "Unprocessable Entity", coap.TooManyRequests: "Too Many Requests",
	coap.InternalServerError: "Internal Server Error", coap.NotImplemented: "Not Implemented", coap.BadGateway: "Bad Gateway", coap.ServiceUnavailable: "Service Unavailable",
	coap.GatewayTimeout: "Gateway Timeout", coap.ProxyingNotSupported: "Proxying Not Supported", coap.HopLimitReached: "Hop Limit Reached",
}

func codeText(code coap.Code) string { return strings.TrimSpace(code.String() + " " + codeNames[code]) }

// codeRemedies say what to do about refusals. Which rule refused stands in the traffic.
var codeRemedies = map[coap.Code]string{
	coap.Unauthorized:             `Give a valid token with --token-file or $` + tokenVariable + `; "fieldgate device token ID" issues one.`,
	coap.Forbidden:                `"fieldgate traffic --status denied" says which rule refused it.`,
	coap.NotFound:                 `No contract has this path for CoAP: "fieldgate coap get /.well-known/core" lists what there is.`,
	coap.BadRequest:               `"fieldgate traffic --status denied" shows what is wrong and where.`,
	coap.UnprocessableEntity:      `"fieldgate traffic --status denied" shows what is wrong and where.`,
	coap.UnsupportedContentFormat: `Say with --content-format what the payload is.`,
	coap.NotAcceptable:            `Ask for another form with --accept, or for none.`,
	coap.TooManyRequests:          `A limit is reached: "fieldgate traffic --status denied" says which.`,
	coap.ServiceUnavailable:       `Try again in a moment.`,
	coap.BadGateway:               `The service behind the gateway does not do its part: "fieldgate upstream list" shows its state.`,
	coap.GatewayTimeout:           `The service behind the gateway does not answer in time: "fieldgate upstream list" shows its state.`,
	coap.ProxyingNotSupported:     `The gateway forwards to where contracts say, not to where a request says.`,
}
