package pipeline

import (
	"fieldgate"
	"fieldgate/contract/schema"
)

// Messages is what a contract says of the messages of a WebSocket that is passed through.
type Messages struct {
	FromClient, FromService *schema.Schema // nil: the direction is not checked
	Max                     int64          // bytes of one message
	Shadow                  bool           // an invalid message passes and is recorded
}

// Messages are nil where the WebSocket of the operation is not checked.
func (o *Operation) Messages() *Messages { return o.messages }

func (o *Operation) linkMessages(schemas *schemas) error {
	if o.WebSocket == nil {
		return nil
	}
	m := &Messages{Max: o.WebSocket.MaxMessage, Shadow: o.OnInvalid == fieldgate.InvalidShadow}
	var err error
	if m.FromClient, err = schemas.compile(o.WebSocket.FromClient); err != nil {
		return err
	}
	if m.FromService, err = schemas.compile(o.WebSocket.FromService); err != nil {
		return err
	}
	o.messages = m
	return nil
}
