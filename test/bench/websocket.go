//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// originVariable holds the address of the WebSocket service when the command runs as that, in a process of its own: descriptors are
// counted by process.
const originVariable = "FIELDGATE_BENCH_ORIGIN"

const (
	idleWebSockets  = 10_000
	spareFiles      = 300             // that the gateway needs besides
	webSocketsFrom  = 2_000           // connections from one loopback address
	settleIdle      = 8 * time.Second // until the runtime has given back what opening took
	handshakeAnswer = "HTTP/1.1 101 " // of any who accepts
	webSocketFields = "Host: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

const webSocketContract = `openapi: 3.1.0
info: {title: Sockets, version: 1.0.0}
x-fieldgate: {upstreams: {origin: {ref: env/origin}}, upstream: origin}
paths:
  /plain: {get: {operationId: plain, security: [], x-fieldgate: {websocket: true}, responses: {'101': {description: messages both ways}}}}
  /checked: {get: {operationId: checked, security: [], x-fieldgate: {websocket: {from-client: {$ref: '#/components/schemas/Reading'}, from-service: {$ref: '#/components/schemas/Reading'}}}, responses: {'101': {description: messages both ways}}}}
components:
  schemas:
    Reading: {type: object, required: [temp], properties: {temp: {type: number, maximum: 125}}}
`

const subscriptionContract = `asyncapi: 3.0.0
info: {title: Events, version: 1.0.0}
channels: {readings: {address: bench/readings, messages: {reading: {contentType: application/json, payload: {type: object}}}}}
operations: {hear: {action: send, channel: {$ref: '#/channels/readings'}, x-fieldgate: {access: [anonymous]}, x-fieldgate-bindings: {http: {path: /bench/readings}}}}
`

// websockets measures the memory that idle WebSockets cost the gateway.
func (b *bench) websockets() error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil { // children have it, too
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	origin := freePort()
	os.Setenv(originVariable, origin)
	_, err = b.start(self)
	os.Unsetenv(originVariable)
	if err != nil {
		return err
	}
	if err := awaitPort(origin); err != nil {
		return err
	}
	fmt.Println("| idle WebSockets | open | RSS before, MB | RSS after, MB | KB each |\n|---|---|---|---|---|")
	for _, kind := range []struct {
		name, path string
		contract   string
		files      uint64 // that each costs the gateway
		secure     bool
	}{{"passed through", "/plain", webSocketContract, 2, false}, {"passed through, messages checked", "/checked", webSocketContract, 2, false},
		{"subscribed to a topic", "/bench/readings", subscriptionContract, 1, false},
		{"passed through, client over TLS", "/plain", webSocketContract, 2, true}, {"subscribed over TLS", "/bench/readings", subscriptionContract, 1, true}} {
		n, err := b.node(fmt.Sprintf("websocket-%s-%v", filepath.Base(kind.path), kind.secure), origin)
		if err != nil {
			return err
		}
		contract := filepath.Join(b.folder, filepath.Base(kind.path)+".yaml")
		if err := os.WriteFile(contract, []byte(kind.contract), 0o600); err != nil {
			return err
		}
		if _, err := b.fieldgate(n.config, "api", "publish", contract); err != nil {
			return err
		}
		count := min(idleWebSockets, int((files.Cur-spareFiles)/kind.files))
		address := n.http
		if kind.secure {
			address = n.https
		}
		if err := idle(kind.name, n, address, kind.path, kind.secure, count); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
	}
	b.stopAll()
	return nil
}

// idle opens WebSockets and prints what they cost.
func idle(name string, n *node, address, path string, secure bool, count int) error {
	nothing := func() error { return nil }
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && hold(address, path, secure, 1, nothing) != nil; { // until the gateway has the contract
		time.Sleep(10 * time.Millisecond)
	}
	if err := hold(address, path, secure, 200, nothing); err != nil { // what is needed once is there
		return err
	}
	time.Sleep(settleIdle)
	before := resident(n.process.Process.Pid)
	return hold(address, path, secure, count, func() error {
		time.Sleep(settleIdle)
		after := resident(n.process.Process.Pid)
		fmt.Printf("| %s | %d | %.1f | %.1f | %.2f |\n", name, count, before, after, (after-before)*1000/float64(count))
		return nil
	})
}

// hold opens WebSockets, one after the other, and keeps them while do runs.
func hold(address, path string, secure bool, count int, do func() error) error {
	links := make([]net.Conn, 0, count)
	defer func() {
		for _, link := range links {
			link.Close()
		}
	}()
	request := "GET " + path + " HTTP/1.1\r\n" + webSocketFields
	answer := make([]byte, 4<<10)
	for i := range count {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/webSocketsFrom))}, Timeout: 10 * time.Second}
		link, err := dialer.Dial("tcp", address)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if secure {
			link = tls.Client(link, &tls.Config{InsecureSkipVerify: true}) // whose certificate it is says nothing about memory
		}
		links = append(links, link)
		if _, err := io.WriteString(link, request); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		link.SetReadDeadline(time.Now().Add(10 * time.Second))
		got, err := link.Read(answer)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if !strings.HasPrefix(string(answer[:got]), handshakeAnswer) {
			return fmt.Errorf("connection %d: %q", i, answer[:got])
		}
	}
	return do()
}

// webSocketOrigin accepts WebSockets, and waits for their ends.
func webSocketOrigin(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		link, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer link.Close()
			in := bufio.NewReaderSize(link, 1<<10)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					break
				}
			}
			// The client of this bench sends one key only (RFC 6455 §4.2.2).
			io.WriteString(link, handshakeAnswer+"Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n")
			in.ReadByte()
		}()
	}
}
