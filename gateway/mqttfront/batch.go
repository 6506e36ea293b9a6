package mqttfront

import (
	"sync"
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttstore"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// batch is what is delivered in one turn: of a loop, or of whoever else publishes. Receivers collect what they get, and are
// written once, at its end. It belongs to one goroutine.
type batch struct {
	front   *Front
	now     time.Time
	dirty   []*connection
	buffers [][]byte // empty ones, to be lent to connections that have something to send

	// The QoS 0 message that is being published, which nobody keeps.
	message broker.Message
	encoded mqtt.Message
	topic   []byte

	seen      []*pipeline.Projection // by the receiver whose turn it is
	projected []projected            // the message that is being published, for those who do not see all of it
}

const (
	maxDirty      = 256       // receivers of a batch that wait to be written
	maxUnsent     = 64 << 10  // bytes above which a receiver is written before the batch ends
	smallBuffer   = 1 << 10   // of a connection that begins to have something to send
	largestBuffer = 128 << 10 // that is kept for the next one
)

// Publish delivers a message to the sessions that subscribed to its topic. It implements broker.Sessions.
func (b *batch) Publish(m *broker.Message, acknowledged func(error)) {
	b.front.route(m, mqttstore.Received{}, acknowledged, b)
}

// lend gives a connection a buffer for what it will have to send. c is locked.
func (b *batch) lend(c *connection) {
	if !c.mqtt.HasBuffer() {
		c.mqtt.SetBuffer(b.buffer())
	}
}

// takeBack takes the buffer of a connection that has nothing to send. c is locked.
func (b *batch) takeBack(c *connection) {
	if c.mqtt.HasBuffer() {
		b.release(c.mqtt.TakeBuffer())
	}
}

func (b *batch) buffer() []byte {
	if n := len(b.buffers); n > 0 {
		buffer := b.buffers[n-1]
		b.buffers = b.buffers[:n-1]
		return buffer
	}
	return make([]byte, 0, smallBuffer)
}

func (b *batch) release(buffer []byte) {
	if cap(buffer) >= smallBuffer && cap(buffer) <= largestBuffer && len(b.buffers) < maxDirty {
		b.buffers = append(b.buffers, buffer[:0])
	}
}

// flush writes the receivers.
func (b *batch) flush() {
	for i, c := range b.dirty {
		c.mu.Lock()
		c.dirty = false
		c.flush(b)
		c.mu.Unlock()
		b.dirty[i] = nil
	}
	b.dirty = b.dirty[:0]
	if backbone := b.front.config.Backbone; backbone != nil {
		backbone.Flush()
	}
}

// flush sends what there is to send as far as the transport takes it without waiting. c is locked.
func (c *connection) flush(b *batch) {
	if c.stream != nil {
		c.stream.flush(c)
	} else {
		c.loop.send(c, b)
	}
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (f *Front) newBatch() *batch {
	b := batches.Get().(*batch)
	b.front, b.now = f, time.Now()
	return b
}

// end writes the receivers and gives the batch back.
func (b *batch) end() {
	b.flush()
	batches.Put(b)
}

// leave has those who serve the receivers write them, and gives the batch back.
func (b *batch) leave() {
	for i, c := range b.dirty {
		c.mu.Lock()
		c.dirty = false
		c.flushLater()
		c.mu.Unlock()
		b.dirty[i] = nil
	}
	b.dirty = b.dirty[:0]
	b.forgetProjected()
	batches.Put(b)
}

// forgetProjected ends the handing out of a message.
func (b *batch) forgetProjected() {
	clear(b.projected)
	b.projected = b.projected[:0]
}
