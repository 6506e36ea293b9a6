package mqttstore

import (
	"reflect"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
)

// FuzzCodec reads values as a damaged disk may hold them. What can be read is written and read again as the same.
func FuzzCodec(f *testing.F) {
	message := broker.Message{Topic: "a/b", Payload: []byte("x"), ContentType: "text/plain", Properties: []byte{1}, QoS: 1, Retain: true,
		Expires: time.Unix(1_800_000_000, 0), Time: time.Unix(1_700_000_000, 5), Client: "c", Publisher: fieldgate.Principal{Kind: fieldgate.PrincipalDevice, ID: "d"}}
	f.Add(appendSession(nil, &Session{Kind: "device", Principal: "d", Client: "c", Expiry: 60, Away: time.Unix(1_700_000_000, 0), Will: &Will{Delay: 1, Expiry: time.Minute, IsText: true, Message: message}}))
	f.Add(appendOptions(nil, Options{QoS: 2, NoLocal: true, RetainAsPublished: true, ID: 7}))
	f.Add(appendMessage(appendQueued(nil, &Recipient{QoS: 1, Retain: true, SubscriptionIDs: []uint32{1, 2}}, true), &message))
	f.Add(appendMessage(nil, &message))
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(value, again any, err error) {
			t.Helper()
			if err != nil || !reflect.DeepEqual(value, again) {
				t.Fatalf("%x: %+v was written and read as %+v, %v", b, value, again, err)
			}
		}
		if s, err := decodeSession(b); err == nil {
			again, err := decodeSession(appendSession(nil, &s))
			same(s, again, err)
		}
		if o, err := decodeOptions(b); err == nil {
			again, err := decodeOptions(appendOptions(nil, o))
			same(o, again, err)
		}
		if to, shared, rest, err := decodeQueued(b); err == nil {
			again, sharedAgain, _, err := decodeQueued(append(appendQueued(nil, &to, shared), rest...))
			same(to, again, err)
			same(shared, sharedAgain, nil)
		}
		if m, err := decodeMessage(b); err == nil {
			again, err := decodeMessage(appendMessage(nil, m))
			same(m, again, err)
		}
	})
}
