//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"fieldgate/protocol/coap"
)

// coapNewsContract is what devices observe, and one of them changes.
const coapNewsContract = `openapi: 3.1.0
info: {title: News, version: 1.0.0}
x-fieldgate: {api: news}
security: [{token: []}]
paths:
  /news:
    get:
      operationId: follow
      x-fieldgate: {access: [device]}
      x-fieldgate-bindings: {coap: {observe: true}, mqtt: {topic: news, action: subscribe, qos: 1}}
      responses: {'200': {description: ok, content: {application/json: {}}}}
    post:
      operationId: tell
      x-fieldgate: {access: [device]}
      x-fieldgate-bindings: {coap: {}, mqtt: {topic: news, action: publish, qos: 1}}
      requestBody: {required: true, content: {application/json: {schema: {type: object}}}}
      responses: {'204': {description: told}}
components: {securitySchemes: {token: {type: http, scheme: bearer}}}
`

const (
	fanoutChanges  = 10               // of which each observer hears each
	fanoutPatience = 10 * time.Second // for a change to be heard by all
	fanoutBuffer   = 64 << 20         // bytes of datagrams that may wait for the generator
)

// coapFanOut has every device observe one resource, and measures what a change of it costs, and how long it takes until all have heard.
func (b *bench) coapFanOut() error {
	s, err := b.coapGateway()
	if err != nil {
		return err
	}
	contract := filepath.Join(b.folder, "news.openapi.yaml")
	if err := os.WriteFile(contract, []byte(coapNewsContract), 0o600); err != nil {
		return err
	}
	if _, err := b.fieldgate(s.config, "api", "publish", contract); err != nil {
		return err
	}
	teller, err := s.client()
	if err != nil {
		return err
	}
	defer teller.Close()
	tell := func(change int) error {
		reply, err := teller.ask(teller.ctx, coap.POST, "/news", fmt.Sprintf(`{"change":%d}`, change))
		if err == nil && !reply.Code.IsSuccess() {
			err = fmt.Errorf("POST /news: %v %q", reply.Code, reply.Body)
		}
		return err
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // until the contract is served
		if err = tell(0); err == nil {
			break
		} else if time.Now().After(end) {
			return err
		}
	}
	requests := make([][]byte, coapFleet)
	for i := range requests {
		var options coap.Options
		options.AddUint(coap.Observe, 0)
		options.AddString(coap.URIPath, "news")
		options.AddString(optionCredential, s.tokens[i])
		requests[i] = coap.AppendMessage(nil, coap.Confirmable, coap.GET, 0, make([]byte, 4), &options, nil)
	}
	load, err := newCoapLoad(s.address, coapPeersFrom, requests, byte(coap.Content))
	if err != nil {
		return err
	}
	defer load.close()
	const receiveBufferForce = 33 // SO_RCVBUFFORCE, as root
	if syscall.SetsockoptInt(load.fd, syscall.SOL_SOCKET, receiveBufferForce, fanoutBuffer) != nil {
		syscall.SetsockoptInt(load.fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, fanoutBuffer)
	}
	if _, err := load.run(coapWindow, coapFleet, time.Hour, nil); err != nil {
		return err
	}
	var took []time.Duration
	var used time.Duration
	heard, confirmable := 0, 0
	for change := range fanoutChanges + 1 {
		time.Sleep(settle)
		before, err := cpu(s.pid)
		if err != nil {
			return err
		}
		told := make(chan error, 1)
		began := time.Now()
		go func() { told <- tell(1 + change) }()
		n, confirmed, last, err := load.hear(fmt.Appendf(nil, `{"change":%d}`, 1+change))
		if err = errors.Join(err, <-told); err != nil {
			return err
		}
		time.Sleep(settle)
		after, err := cpu(s.pid)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "fanout: %d of %d heard change %d after %v, %d of them Confirmable; CPU %v\n", n, coapFleet, 1+change, last.Sub(began), confirmed, after-before)
		if change == 0 {
			continue // the first is Confirmable for all
		}
		took, used, heard, confirmable = append(took, last.Sub(began)), used+after-before, heard+n, confirmable+confirmed
	}
	slices.Sort(took)
	fmt.Println("| CoAP fan-out | observers | changes | heard | ms until the last has heard: median (most) | CPU µs per notification | Confirmable | RSS MB |\n|---|---|---|---|---|---|---|---|")
	fmt.Printf("| one change for all | %d | %d | %d | **%s** (%s) | **%.1f** | %d | %.0f |\n", coapFleet, fanoutChanges, heard, milliseconds(took[len(took)/2]),
		milliseconds(took[len(took)-1]), float64(used.Microseconds())/float64(heard), confirmable, resident(s.pid))
	return nil
}

// hear counts who hears a change, and when the last did, until all have or it takes too long. It acknowledges what is Confirmable.
func (l *coapLoad) hear(content []byte) (heard, confirmable int, last time.Time, err error) {
	seen := make([]bool, len(l.peers))
	acknowledgements := make([][4]byte, coapBatch)
	last = time.Now()
	for end := last.Add(fanoutPatience); heard < len(seen) && time.Now().Before(end); {
		for i := range l.in {
			l.in[i].Controllen = uint64(len(l.inControl[i]))
		}
		const waitForOne = 0x10000 // MSG_WAITFORONE
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVMMSG, uintptr(l.fd), uintptr(unsafe.Pointer(&l.in)), coapBatch, waitForOne, 0, 0)
		switch errno {
		case 0:
		case syscall.EINTR, syscall.EAGAIN:
			continue
		default:
			return heard, confirmable, last, os.NewSyscallError("recvmmsg", errno)
		}
		for i := range int(n) {
			m, err := coap.Decode(l.buffer[i][:l.in[i].length])
			if err != nil || len(m.Token) != 4 {
				return heard, confirmable, last, fmt.Errorf("heard %x", l.buffer[i][:l.in[i].length])
			}
			number := int(binary.BigEndian.Uint32(m.Token))
			if m.Type == coap.Confirmable {
				at := l.waiting
				acknowledgements[at] = [4]byte{0x60, 0, byte(m.MessageID >> 8), byte(m.MessageID)}
				l.vectors[at] = syscall.Iovec{Base: &acknowledgements[at][0], Len: 4}
				l.control[at].Spec_dst = l.peers[number].address
				l.waiting++
			}
			if string(m.Payload) == string(content) && !seen[number] {
				seen[number] = true
				heard++
				last = time.Now()
				if m.Type == coap.Confirmable {
					confirmable++
				}
			}
		}
		if err := l.flush(); err != nil {
			return heard, confirmable, last, err
		}
	}
	return heard, confirmable, last, nil
}
