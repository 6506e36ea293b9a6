package fieldgate

import (
	"strconv"
	"strings"
	"time"
)

// What the control plane asks gateways about CoAP, and what they answer. Every list is a page in the order of its keys; bounds are those
// of questions about MQTT.

// CoAPQuestion is one question to one gateway; one of its members is there.
type CoAPQuestion struct {
	Peers          *CoAPListQuestion   `json:"peers,omitempty"`
	Observations   *CoAPListQuestion   `json:"observations,omitempty"`
	Transfers      *CoAPListQuestion   `json:"transfers,omitempty"`
	Peer           *CoAPPeerKey        `json:"peer,omitempty"` // with its observations and transfers
	EndObservation *CoAPObservationKey `json:"endObservation,omitempty"`
	EndSession     *CoAPPeerKey        `json:"endSession,omitempty"` // DTLS session or connection
}

// CoAPAnswer is what a gateway answers, by the member of the question.
type CoAPAnswer struct {
	Peers        []CoAPPeer        `json:"peers,omitempty"`
	Observations []CoAPObservation `json:"observations,omitempty"`
	Transfers    []CoAPTransfer    `json:"transfers,omitempty"`
	More         bool              `json:"more,omitempty"`
	Done         bool              `json:"done,omitempty"` // what EndObservation or EndSession names was there, and is no more
}

// CoAPListQuestion asks for a page.
type CoAPListQuestion struct {
	Terms []FilterTerm `json:"terms,omitempty"`
	After string       `json:"after,omitempty"` // Order of the last one of the page before
	Limit int          `json:"limit"`           // MaxMQTTPage at the most
}

// CoAPPeerKey names a peer of one gateway.
type CoAPPeerKey struct {
	Node     string `json:"node"`
	Listener string `json:"listener"` // as in the settings: coap, coaps, …
	Peer     string `json:"peer"`     // its address, or the name of its session or connection
}

// CoAPOwner is a peer as lists show it: where it is, and who.
type CoAPOwner struct {
	CoAPPeerKey
	Source    string        `json:"source"` // address and port
	Kind      PrincipalKind `json:"kind,omitempty"`
	Principal string        `json:"principal,omitempty"` // empty: it has not shown who it is
}

// between separates the parts of an order. It is below what they are made of, and, other than NUL, may stand in a cursor.
const between = "\x1f"

// Order is the place of a peer in lists.
func (o *CoAPOwner) Order() string {
	return strings.Join([]string{o.Source, o.Listener, o.Peer, o.Node}, between)
}

// CoAPCredential is how a peer has shown who it is.
type CoAPCredential string

const (
	CoAPToken       CoAPCredential = "token"       // in its requests
	CoAPPSK         CoAPCredential = "psk"         // when its DTLS session began
	CoAPCertificate CoAPCredential = "certificate" // when its DTLS session or connection began
)

// CoAPPeer is one peer.
type CoAPPeer struct {
	CoAPOwner
	Credential   CoAPCredential `json:"credential,omitempty"` // empty: it has not shown who it is
	Heard        time.Time      `json:"heard,omitzero"`       // when its last request came, or any record of its DTLS session
	Verified     bool           `json:"verified,omitempty"`
	Requests     int            `json:"requests,omitempty"` // of it, not answered yet
	Calls        int            `json:"calls,omitempty"`    // of the gateway's, not answered yet
	Observations int            `json:"observations,omitempty"`
	Transfers    int            `json:"transfers,omitempty"`

	// Of a DTLS session or a connection.
	Opened       time.Time `json:"opened,omitzero"`        // zero: it has neither
	Cipher       string    `json:"cipher,omitempty"`       // such as TLS_PSK_WITH_AES_128_CCM_8; empty: none, or that of the HTTP listener
	ConnectionID bool      `json:"connectionId,omitempty"` // the session goes on when its address changes
}

// CoAPObservationKey names an observation.
type CoAPObservationKey struct {
	CoAPPeerKey
	Token string `json:"token"` // hexadecimal
}

// CoAPObservation is one observation of a peer.
type CoAPObservation struct {
	CoAPOwner
	Token   string    `json:"token"`
	Path    string    `json:"path"` // or the route of the contract, where a part of it is secret
	Since   time.Time `json:"since"`
	Sent    int       `json:"sent"`              // notifications
	Waiting bool      `json:"waiting,omitempty"` // for an acknowledgement
}

// Order is the place of an observation in lists.
func (o *CoAPObservation) Order() string { return o.CoAPOwner.Order() + between + o.Token }

// CoAPTransfer is one body on its way in blocks.
type CoAPTransfer struct {
	CoAPOwner
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Upload bool      `json:"upload,omitempty"` // from the peer
	Bytes  int       `json:"bytes"`            // that have come, or have been asked for
	Size   int       `json:"size,omitempty"`   // 0: the peer has not said
	Used   time.Time `json:"used"`             // when the last block came or went
}

// Order is the place of a transfer in lists.
func (t *CoAPTransfer) Order() string {
	return strings.Join([]string{t.CoAPOwner.Order(), t.Path, t.Method, strconv.FormatBool(t.Upload)}, between)
}
