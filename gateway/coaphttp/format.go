package coaphttp

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
	{62, "application/multipart-core"},
	{63, "application/cbor-seq"},
	{101, "application/cose-key"},
	{102, "application/cose-key-set"},
	{coap.SenMLJSON, "application/senml+json"},
	{111, "application/sensml+json"},
	{coap.SenMLCBOR, "application/senml+cbor"},
	{113, "application/sensml+cbor"},
	{114, "application/senml-exi"},
	{115, "application/sensml-exi"},
	{coap.ConciseProblemCBOR, "application/concise-problem-details+cbor"},
	{21, "image/gif"},
	{22, "image/jpeg"},
	{23, "image/png"},
	{310, "application/senml+xml"},
	{311, "application/sensml+xml"},
	{320, "application/senml-etch+json"},
	{322, "application/senml-etch+cbor"},
	{432, "application/td+json"},
	{11542, "application/vnd.oma.lwm2m+tlv"},
	{11543, "application/vnd.oma.lwm2m+json"},
	{11544, "application/vnd.oma.lwm2m+cbor"},
}

// MediaType is the media type of a content format; RFC 8075 section 6.2 says how an unknown one is called.
func MediaType(format uint32) string {
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

// ContentType is MediaType, without taking memory for what is registered. Nobody may change it.
func ContentType(format uint32) []byte {
	if known := contentTypes[format]; known != nil {
		return known
	}
	return []byte(MediaType(format))
}

var contentTypes = func() map[uint32][]byte {
	all := make(map[uint32][]byte)
	for _, f := range formats {
		all[f.number] = []byte(MediaType(f.number))
	}
	return all
}()

// Format is the content format of a media type.
func Format(mediaType string) (format uint32, known bool) {
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

func IsJSON(mediaType string) bool {
	essence, _, _ := strings.Cut(mediaType, ";")
	essence = strings.ToLower(strings.TrimSpace(essence))
	return essence == "application/json" || strings.HasSuffix(essence, "+json")
}

func IsCBOR(mediaType string) bool {
	essence, _, _ := strings.Cut(mediaType, ";")
	essence = strings.ToLower(strings.TrimSpace(essence))
	return essence == "application/cbor" || strings.HasSuffix(essence, "+cbor")
}
