package mqttexchange

import (
	"bytes"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

var (
	errNotUTF8    = fieldgate.NewProblem(fieldgate.ProblemInvalidPayload, "The payload format indicator says UTF-8, but the payload is none.")
	errReplyTopic = fieldgate.NewProblem(fieldgate.ProblemForbidden, `Only the gateway publishes answers below "`+fieldgate.ReplyPrefix+`".`)
	errSystem     = fieldgate.NewProblem(fieldgate.ProblemForbidden, `Only the gateway publishes below "`+SystemPrefix+`".`)
)

// SystemPrefix begins the topics on which the gateway tells how it does.
const SystemPrefix = "$SYS/"

// CheckMessage asks what holds for every message of MQTT, a will's too, whatever its contract says.
// isText: its payload format indicator says UTF-8.
func CheckMessage(x *pipeline.Exchange, isText bool) *fieldgate.Problem {
	switch {
	case isText && !utf8.Valid(x.Body): // §3.3.2.3.2
		x.Fail(errNotUTF8)
	case bytes.HasPrefix(x.Path, []byte(fieldgate.ReplyPrefix)):
		x.Fail(errReplyTopic)
	case bytes.HasPrefix(x.Path, []byte(SystemPrefix)):
		x.Fail(errSystem)
	}
	return x.Problem
}

// Ask takes a PUBLISH through the stages that come before it goes anywhere. All but the parts of the packet that may be parameters, and the
// payload, is in the exchange already.
func Ask(p *pipeline.Pipeline, x *pipeline.Exchange, publish *mqtt.Publish) *fieldgate.Problem {
	var user userFields
	if len(publish.Properties.User) > 0 {
		user = clone(publish.Properties.User)
		x.Fields, x.Query = user, user.query()
	}
	problem := p.Begin(x)
	if x.Copy != nil {
		for _, pair := range user {
			x.Copy.RequestField(pair.Key, pair.Value)
		}
	}
	if problem != nil {
		return problem
	}
	x.Body = publish.Payload
	if problem = p.Check(x); problem != nil {
		return problem
	}
	return CheckMessage(x, publish.Properties.Number(mqtt.PayloadFormatIndicator) == 1)
}

// Subscription is the exchange by which the pipeline is asked about a filter, or a topic to be heard.
func Subscription(source netip.AddrPort, caller *pipeline.Caller, client string, filter []byte) *pipeline.Exchange {
	return &pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodSubscribe, Source: source, Caller: caller, ClientID: client, Path: filter}
}

// userFields offers user properties to the pipeline as the header fields that a contract may have among its parameters.
type userFields []mqtt.Pair

// Field implements pipeline.FieldSource.
func (u userFields) Field(name string) ([]byte, bool) {
	for i := range u {
		if len(u[i].Key) == len(name) && bytes.EqualFold(u[i].Key, []byte(name)) {
			return u[i].Value, true
		}
	}
	return nil, false
}

// clone copies user properties, which are views of a packet.
func clone(user []mqtt.Pair) userFields {
	fields := make(userFields, len(user))
	for i, pair := range user {
		fields[i] = mqtt.Pair{Key: bytes.Clone(pair.Key), Value: bytes.Clone(pair.Value)}
	}
	return fields
}

// query offers user properties to the pipeline as query parameters.
func (u userFields) query() []byte {
	var query []byte
	for i, pair := range u {
		if i > 0 {
			query = append(query, '&')
		}
		query = append(query, percentEncoded(pair.Key)...)
		query = append(query, '=')
		query = append(query, percentEncoded(pair.Value)...)
	}
	return query
}

// percentEncoded escapes all that could end a query parameter (RFC 3986 section 2.1).
func percentEncoded(b []byte) string {
	return strings.ReplaceAll(url.QueryEscape(string(b)), "+", "%20")
}
