//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"fieldgate/protocol/coap"
)

// coapClient is a client that waits for its answers, for what is not measured.
type coapClient struct {
	*coap.UDP
	server netip.AddrPort
	token  string
	ctx    context.Context
	end    context.CancelFunc
}

func (s *coapServer) client() (*coapClient, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	c := &coapClient{}
	if c.server, err = netip.ParseAddrPort(s.address); err != nil {
		return nil, err
	}
	if c.UDP, err = coap.NewUDP(conn, coap.Config{NStart: 64}, 0, nil, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if s.tokens != nil {
		c.token = s.tokens[len(s.tokens)-1]
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	go c.Run(c.ctx)
	return c, nil
}

// Close ends the client. What it has asked for is left unanswered.
func (c *coapClient) Close() error {
	c.end()
	return nil
}

func (c *coapClient) ask(ctx context.Context, method coap.Code, path, body string) (*coap.Reply, error) {
	call := &coap.Call{Code: method, Body: []byte(body)}
	for segment := range strings.SplitSeq(path[1:], "/") {
		call.Options.AddString(coap.URIPath, segment)
	}
	if c.token != "" {
		call.Options.AddString(optionCredential, c.token)
	}
	if body != "" {
		call.Options.AddUint(coap.ContentFormat, coap.JSON)
	}
	return c.Do(ctx, c.server, call)
}

// await waits until the server answers as it will.
func (s *coapServer) await() error {
	c, err := s.client()
	if err != nil {
		return err
	}
	defer c.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(c.ctx, 200*time.Millisecond)
		reply, err := c.ask(ctx, coap.GET, "/state", "")
		cancel()
		switch {
		case err == nil && reply.Code == coap.Content:
			return nil
		case time.Now().After(end) && err == nil:
			return fmt.Errorf("%s answers %v %q", s.name, reply.Code, reply.Body)
		case time.Now().After(end):
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
}

// put makes a resource of libcoap's server.
func (s *coapServer) put(path, body string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	defer c.Close()
	reply, err := c.ask(c.ctx, coap.PUT, path, body)
	if err == nil && !reply.Code.IsSuccess() {
		err = fmt.Errorf("PUT %s: %v", path, reply.Code)
	}
	return err
}

// coapBlock has one peer wait for as much as it may.
func (b *bench) coapBlock(s *coapServer) (io.Closer, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	for range 20 {
		go c.ask(c.ctx, coap.GET, "/slow", "")
	}
	time.Sleep(coapSlow / 10)
	return c, nil
}

// coapOrigin is the service behind the gateway: what it is asked for it answers at once, or after coapSlow.
func (b *bench) coapOrigin() (address string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			time.Sleep(coapSlow)
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, coapState)
	}))
	return listener.Addr().String(), nil
}
