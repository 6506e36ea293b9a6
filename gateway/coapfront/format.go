package coapfront

import (
	"strconv"
	"strings"

	"fieldgate/protocol/coap"
)

// formats is the part of the IANA CoAP Content-Formats registry that contracts use.
var formats = []struct {
	number    uint32
	mediaType string
}{
	{coap.TextPlain, "text/plain"},
	{coap.LinkFormat, "application/link-format"},
	{coap.XML, "application/xml"},
	{coap.OctetStream, "application/octet-stream"},
	{47, "application/exi"},
	{coap.JSON, "application/json"},
	{coap.JSONPatch, "application/json-patch+json"},
	{coap.MergePatch, "application/merge-patch+json"},
	{coap.CBOR, "application/cbor"},
	{61, "application/cwt"},
	{63, "application/cbor-seq"},
	{coap.SenMLJSON, "application/senml+json"},
	{coap.SenMLCBOR, "application/senml+cbor"},
	{coap.ConciseProblemCBOR, "application/concise-problem-details+cbor"},
}

// mediaTypeOf is the media type of a content format; RFC 8075 section 6.2 says how an unknown one is called.
func mediaTypeOf(format uint32) string {
	if format == coap.TextPlain {
		return "text/plain; charset=utf-8"
	}
	for _, f := range formats {
		if f.number == format {
			return f.mediaType
		}
	}
	return "application/coap-payload;cf=" + strconv.FormatUint(uint64(format), 10)
}

// formatOf is the content format of a media type.
func formatOf(mediaType string) (format uint32, known bool) {
	essence, parameters, _ := strings.Cut(mediaType, ";")
	essence = strings.ToLower(strings.TrimSpace(essence))
	for _, f := range formats {
		if f.mediaType == essence {
			return f.number, true
		}
	}
	if essence == "application/coap-payload" {
		if number, ok := strings.CutPrefix(strings.TrimSpace(parameters), "cf="); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			return uint32(n), err == nil
		}
	}
	return 0, false
}

func isJSON(mediaType string) bool {
	essence, _, _ := strings.Cut(mediaType, ";")
	essence = strings.ToLower(strings.TrimSpace(essence))
	return essence == "application/json" || strings.HasSuffix(essence, "+json")
}

func isCBOR(mediaType string) bool {
	essence, _, _ := strings.Cut(mediaType, ";")
	essence = strings.ToLower(strings.TrimSpace(essence))
	return essence == "application/cbor" || strings.HasSuffix(essence, "+cbor")
}
