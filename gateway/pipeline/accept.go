package pipeline

import (
	"bytes"
	"slices"
	"strings"

	"fieldgate"
)

// acceptRange is one media range of the Accept field (RFC 9110 §12.5.1). Its parameters do not count, besides the weight.
type acceptRange struct {
	mediaType []byte // as sent
	weight    int    // in thousandths; 0: not acceptable
}

// maxAcceptRanges bounds what is read of the Accept field.
const maxAcceptRanges = 64

// acceptable goes through the ranges of the Accept field.
func (x *Exchange) acceptable(yield func(acceptRange) bool) {
	if x.Fields == nil {
		return
	}
	list, _ := x.Fields.Field("accept")
	for count := 0; len(list) > 0 && count < maxAcceptRanges; {
		var element []byte
		element, list = cutElement(list, ',')
		mediaType, parameters := cutElement(element, ';')
		if mediaType = bytes.TrimSpace(mediaType); len(mediaType) == 0 {
			continue // RFC 9110 §5.6.1.2: empty elements do not count
		}
		if count++; !yield(acceptRange{mediaType, weightOf(parameters)}) {
			return
		}
	}
}

// cutElement cuts at the first separator that does not stand in a quoted string (RFC 9110 §5.6.4).
func cutElement(list []byte, separator byte) (element, rest []byte) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == separator && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return list, nil
}

// weightOf is the weight among the parameters of a range, in thousandths (RFC 9110 §12.4.2); one that is malformed is 0.
func weightOf(parameters []byte) int {
	for len(parameters) > 0 {
		var parameter []byte
		parameter, parameters = cutElement(parameters, ';')
		parameter = bytes.TrimSpace(parameter)
		if len(parameter) < 2 || parameter[0]|0x20 != 'q' || parameter[1] != '=' {
			continue
		}
		return qvalue(parameter[2:])
	}
	return 1000
}

// qvalue reads ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ).
func qvalue(text []byte) int {
	if len(text) == 0 || len(text) > 5 || text[0] != '0' && text[0] != '1' || len(text) > 1 && text[1] != '.' {
		return 0
	}
	weight, unit := 1000*int(text[0]-'0'), 100
	for _, c := range text[min(2, len(text)):] {
		if c < '0' || c > '9' {
			return 0
		}
		weight += unit * int(c-'0')
		unit /= 10
	}
	if weight > 1000 {
		return 0
	}
	return weight
}

// weight is how much the caller wants a media type: by the most specific range that matches it (RFC 9110 §12.5.1).
func (x *Exchange) weight(mediaType string) int {
	weight, specific := 0, 0
	for r := range x.acceptable {
		if s := specificity(r.mediaType, mediaType); s > specific {
			weight, specific = r.weight, s
		} else if s != 0 && s == specific {
			weight = max(weight, r.weight)
		}
	}
	return weight
}

// specificity says how narrowly a range matches a type: 3 exactly, 2 as type/*, 1 as */*, 0 not at all.
func specificity(given []byte, mediaType string) int {
	switch {
	case equalFold(given, mediaType):
		return 3
	case string(given) == "*/*":
		return 1
	}
	slash := strings.IndexByte(mediaType, '/')
	if len(given) == slash+2 && given[slash+1] == '*' && equalFold(given[:slash+1], mediaType[:slash+1]) {
		return 2
	}
	return 0
}

// equalFold compares ASCII without case; lower is in lower case.
func equalFold(text []byte, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// offers are the media types of the answers that an operation declares for success.
type offers struct {
	types  []string
	varies bool // which answer a caller gets depends on what it takes
	events bool // it can be subscribed to, as server-sent events
	json   bool // one of the types is JSON, which is turned into CBOR for who takes nothing else
	refuse *fieldgate.Problem
}

const cborType = "application/cbor"

// linkOffers is nil where the contract says nothing of the answers' types, or that any will do.
func linkOffers(o *fieldgate.Operation) *offers {
	f := &offers{events: o.MQTT != nil && o.MQTT.Action == fieldgate.ActionSubscribe}
	for _, response := range o.Responses {
		if response.Status[0] != '2' {
			continue
		}
		for _, media := range response.Media {
			switch {
			case strings.Contains(media.Type, "*"):
				return nil
			case !slices.Contains(f.types, media.Type):
				f.types = append(f.types, media.Type)
				f.json = f.json || encodingOf(media.Type) == encodingJSON
			}
		}
	}
	if len(f.types) == 0 {
		return nil
	}
	f.varies = f.json || f.events || len(f.types) > 1
	f.refuse = fieldgate.NewProblem(fieldgate.ProblemNotAcceptable, "The contract has "+listed(f.types)+".")
	return f
}

// negotiate is the stage: does the caller take any of the answers that the contract has (RFC 9110 §12.5.1)?
func negotiate(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	if x.Protocol != fieldgate.ProtocolHTTP || x.Fields == nil {
		return nil // CoAP has an option of its own for it
	}
	f := x.Operation.offers
	// Caches keep answers to GET and HEAD only; of others it would say nothing to anybody.
	x.byAccept = f.varies && (x.Method == fieldgate.MethodGet || x.Method == fieldgate.MethodHead)
	if accept, said := x.Fields.Field("accept"); !said || string(accept) == "*/*" {
		return nil
	}
	for _, mediaType := range f.types {
		if x.weight(mediaType) > 0 {
			return nil
		}
	}
	switch {
	case f.events && x.weight("text/event-stream") > 0:
		return nil
	case f.json && x.weight(cborType) > 0:
		x.toCBOR = true
		return nil
	}
	return f.refuse
}
