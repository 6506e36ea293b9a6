package sim

import (
	"context"
	"errors"
	"net"

	"fieldgate/protocol/mqtt"
)

// keepAlive is in seconds.
const keepAlive = 60

// mqttLink is a device's connection. The token is the password; the client id and the user name are the device's id.
type mqttLink struct {
	client  *mqtt.Client
	version mqtt.Version
	abrupt  bool // it ends without a goodbye, so that its will is published
}

func (f *Fleet) connectMQTT(ctx context.Context, device Device, token string, t *tally) (link, verdict) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.config.MQTT)
	if err != nil {
		return nil, verdict{Unanswered, "no connection"}
	}
	options := mqtt.ClientOptions{
		ClientID: device.ID, Username: device.ID, Password: token, KeepAlive: keepAlive,
		Receive: func(*mqtt.Publish) { t.received() },
	}
	if device.Product == Thermometer && device.Firmware == "1.8.3" { // old firmware speaks the old version
		options.Version = mqtt.V311
	}
	if device.Product == Tracker {
		options.Will = &mqtt.Publish{Topic: []byte("tracker/" + device.ID + "/status"), Payload: []byte(`{"state":"offline"}`), QoS: 1, Retain: true}
	}
	client, err := mqtt.Dial(ctx, conn, options)
	if err != nil {
		return nil, mqttVerdict(err)
	}
	if topic := commandTopic(device); topic != "" {
		if _, err := client.Subscribe(ctx, mqtt.Filter{Filter: []byte(topic), QoS: 1}); err != nil {
			client.Close()
			return nil, mqttVerdict(err)
		}
	}
	return &mqttLink{client, options.Version, device.Behaviour == Unsteady}, verdict{}
}

func commandTopic(device Device) string {
	switch device.Product {
	case Tracker:
		return "tracker/" + device.ID + "/commands"
	case Thermometer:
		return "d/" + device.ID + "/cmd"
	}
	return ""
}

func (l *mqttLink) send(ctx context.Context, r *request) verdict {
	err := l.client.Publish(ctx, &mqtt.Publish{Topic: []byte(r.topic), QoS: 1, Retain: r.retain, Payload: r.payload.appendJSON(nil)})
	if err != nil {
		return mqttVerdict(err)
	}
	if l.version == mqtt.V311 { // its acknowledgement says nothing (MQTT 3.1.1 section 3.4)
		return verdict{Passed, "acknowledged"}
	}
	return verdict{Passed, mqtt.Success.String()}
}

// mqttVerdict sorts the reason codes of MQTT 5 section 2.4 by whose fault they say it is.
func mqttVerdict(err error) verdict {
	reason := new(mqtt.ReasonError)
	if !errors.As(err, &reason) {
		return verdict{Unanswered, "no answer"}
	}
	switch reason.Reason {
	case mqtt.UnspecifiedError, mqtt.ImplementationSpecificError, mqtt.ServerUnavailable, mqtt.ServerBusy, mqtt.ServerShuttingDown:
		return verdict{Failed, reason.Reason.String()}
	}
	return verdict{Refused, reason.Reason.String()}
}

func (l *mqttLink) broken() <-chan struct{} { return l.client.Done() }

func (l *mqttLink) close() {
	if l.abrupt {
		l.client.Close()
		return
	}
	// A connection that is lost already has no goodbye.
	_ = l.client.Disconnect(mqtt.Success)
}
