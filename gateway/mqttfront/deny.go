package mqttfront

import (
	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/protocol/mqtt"
)

// refuseMessage answers a PUBLISH that was refused. A client of 3.1.1 cannot be told: its message is acknowledged and dropped, or the
// connection ends, as the listener's terms have it.
func (c *connection) refuseMessage(qos byte, id uint16, problem *fieldgate.Problem) {
	switch {
	case c.mqtt.Version() == mqtt.V311 && c.listener.Terms.DisconnectDenied:
		c.drop(id, mqttexchange.Reason(problem.Code))
	case qos > 0:
		c.acknowledgeWith(id, problem)
	}
}
