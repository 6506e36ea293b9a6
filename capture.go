package fieldgate

import (
	"encoding/json"
	"time"
)

// Bounds of captures.
const (
	MaxCaptures         = 64 // that a control node holds, and that a gateway follows, at once
	MaxCaptureExchanges = 50 // of one capture
	MaxCaptureDuration  = 5 * time.Minute
	MaxCaptureContent   = 16 << 10  // bytes of content, in each direction
	MaxCaptureFields    = 64        // in each direction
	MaxCaptureField     = 1 << 10   // bytes of a field's value
	MaxCaptured         = 256 << 10 // bytes of a Captured on the bus
)

// CaptureFilter says which exchanges are captured; what is empty fits all.
type CaptureFilter struct {
	API       string `json:"api,omitempty"`
	Operation string `json:"operation,omitempty"`
	Principal string `json:"principal,omitempty"`
	Protocol  string `json:"protocol,omitempty"` // as Protocol.String says it
	Refused   bool   `json:"refused,omitempty"`  // only what was refused
}

// CaptureOrder tells the gateways what to capture, and the control plane's nodes what is being captured. It is sent again now and
// then while the capture runs; a second one for the same capture can end it, but neither lengthen nor change it.
type CaptureOrder struct {
	ID        string        `json:"id"`
	Filter    CaptureFilter `json:"filter"`
	Count     int           `json:"count"`     // exchanges to capture, of all gateways together
	Remaining time.Duration `json:"remaining"` // until the capture ends, in nanoseconds; 0: it has been stopped
}

// Valid says whether the order keeps within the bounds.
func (o *CaptureOrder) Valid() bool {
	f := &o.Filter
	for _, text := range []string{f.API, f.Operation, f.Principal} {
		if len(text) > MaxIdentifierBytes {
			return false
		}
	}
	if _, known := ParseProtocol(f.Protocol); f.Protocol != "" && !known {
		return false
	}
	return ValidIdentifier(o.ID) && o.Count >= 1 && o.Count <= MaxCaptureExchanges && o.Remaining >= 0 && o.Remaining <= MaxCaptureDuration
}

// Captured is one exchange with what it carried. The gateway has taken out credentials and the values of secret fields before it
// left.
type Captured struct {
	Capture  string          `json:"capture"`
	Node     string          `json:"node"`
	Instance string          `json:"instance"` // names the exchange, as in problem details
	Record   Record          `json:"record"`
	Path     string          `json:"path"` // or topic
	Query    string          `json:"query,omitempty"`
	Request  CapturedContent `json:"request"`
	Response CapturedContent `json:"response"`
}

// CapturedContent is one direction of an exchange. Of JSON and Data at most one is there.
type CapturedContent struct {
	Fields []CapturedField `json:"fields,omitempty"` // header fields, user properties, options
	Type   string          `json:"type,omitempty"`   // of the content, as sent
	Bytes  uint64          `json:"bytes"`            // of the content, as sent
	JSON   json.RawMessage `json:"json,omitempty"`   // content that is JSON or CBOR; {"redacted": why} stands where a value was taken out
	Data   []byte          `json:"data,omitempty"`   // any other content
	Note   string          `json:"note,omitempty"`   // why content is missing, or what is to be known about it
}

// CapturedField is one field. Redacted says why its value was taken out.
type CapturedField struct {
	Name     string `json:"name"`
	Value    string `json:"value,omitempty"`
	Redacted string `json:"redacted,omitempty"`
}
