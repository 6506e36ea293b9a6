// Package fieldgate holds the domain's words, shared by the control plane and the gateway: Contract and Operation (what
// an API promises), Principal (who calls), Exchange (one request or message), Problem (why it was refused), Snapshot and
// Directory changes (what flows down to gateways) and Record (what flows up from them).
//
// It owns names, limits and wire forms of those values and nothing else: no input or output, no goroutine. It imports
// nothing of the project.
package fieldgate

// Protocol says which protocol front an exchange came through.
type Protocol uint8

const (
	ProtocolHTTP Protocol = iota
	ProtocolWebSocket
	ProtocolSSE
	ProtocolMQTT
	ProtocolCoAP

	Protocols // number of protocols
)

var protocolNames = [Protocols]string{"http", "websocket", "sse", "mqtt", "coap"}

// String is the protocol's name in the API, the console, metrics and the database.
func (p Protocol) String() string {
	if p < Protocols {
		return protocolNames[p]
	}
	return "unknown"
}

// ParseProtocol is the inverse of Protocol.String.
func ParseProtocol(name string) (Protocol, bool) {
	for i, n := range protocolNames {
		if n == name {
			return Protocol(i), true
		}
	}
	return 0, false
}

// Method is a request method in HTTP's words; CoAP's method codes map onto it one to one (RFC 8075 section 7,
// RFC 8132). MQTT's own two come last.
type Method uint8

const (
	MethodGet Method = iota
	MethodHead
	MethodPost
	MethodPut
	MethodPatch
	MethodDelete
	MethodOptions
	MethodFetch  // CoAP FETCH (RFC 8132)
	MethodIPatch // CoAP iPATCH (RFC 8132)
	MethodTrace
	MethodOther   // an extension method, passed only by pass-through APIs
	MethodConnect // MQTT CONNECT, where it is refused
	MethodPublish
	MethodSubscribe

	Methods // number of methods
)

var methodNames = [Methods]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FETCH", "IPATCH", "TRACE", "OTHER", "CONNECT", "PUBLISH", "SUBSCRIBE"}

func (m Method) String() string {
	if m < Methods {
		return methodNames[m]
	}
	return "OTHER"
}

// ParseMethod reads a method token; methods are case-sensitive (RFC 9110 section 9.1).
func ParseMethod(token []byte) Method {
	for m := MethodGet; m <= MethodTrace; m++ {
		if methodNames[m] == string(token) {
			return m
		}
	}
	return MethodOther
}
