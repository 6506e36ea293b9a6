// Package mqtt implements MQTT 3.1.1 and 5.0 without doing I/O: a codec, the server side of a connection as a state
// machine, the session state that outlives it, a subscription tree and a retained-message store, and a small client.
//
// A server feeds received bytes to a Conn and asks for events; what is to be sent collects in Out:
//
//	c := mqtt.NewConn(&limits)
//	c.Feed(received)
//	for {
//		event, err := c.Next(now, packets) // err: the packet broke the protocol; Out holds the last words
//		if err != nil || event == mqtt.NeedMore {
//			break
//		}
//		switch event {
//		case mqtt.ConnectReceived:       // decide on packets.Connect, then Accept, Challenge or Refuse
//		case mqtt.PublishReceived:       // store or forward packets.Publish, then Acknowledge
//		}
//	}
//	network.Write(c.Out(nil, now))
//
// Decoded packets are views of the fed bytes and die with the next call of Next: copy what must live longer.
// A Conn has no lock and no clock; whoever owns it provides both.
//
// Clauses are cited as in the OASIS standards: [MQTT-3.1.0-1] is the same statement in both versions unless a comment
// says "3.1.1". Refused: protocol level 3 (MQTT 3.1).
package mqtt
