//go:build linux

package main

import (
	"bytes"
	"io"
	"log"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	coapnet "github.com/plgd-dev/go-coap/v3"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/mux"
	network "github.com/plgd-dev/go-coap/v3/net"
)

// goCoapVariable has the bench run as the go-coap server at its address, in a process of its own.
const goCoapVariable = "FIELDGATE_BENCH_GO_COAP"

// goCoapSecure is what the address begins with where it is to serve DTLS.
const goCoapSecure = "coaps://"

// goCoapServer answers as Fieldgate's mocks do, without any check.
func goCoapServer(address string) error {
	router := mux.NewRouter()
	answer := func(path string, handle func(w mux.ResponseWriter, r *mux.Message) error) {
		err := router.Handle(path, mux.HandlerFunc(func(w mux.ResponseWriter, r *mux.Message) {
			if err := handle(w, r); err != nil {
				log.Print(err)
			}
		}))
		if err != nil {
			log.Fatal(err)
		}
	}
	get := func(w mux.ResponseWriter, _ *mux.Message) error {
		return w.SetResponse(codes.Content, message.AppJSON, bytes.NewReader([]byte(coapState)))
	}
	answer("/state", get)
	answer("/slow", func(w mux.ResponseWriter, r *mux.Message) error {
		time.Sleep(coapSlow)
		return get(w, r)
	})
	answer("/r", func(w mux.ResponseWriter, r *mux.Message) error {
		if _, err := io.Copy(io.Discard, r.Body()); err != nil {
			return err
		}
		return w.SetResponse(codes.Changed, message.AppJSON, nil)
	})
	if secure, ok := strings.CutPrefix(address, goCoapSecure); ok {
		return coapnet.ListenAndServeDTLS("udp4", secure, network.NewDTLSServerOptions(dtls.WithCipherSuites(dtlsCipherSuites),
			dtls.WithPSK(func([]byte) ([]byte, error) { return []byte(dtlsKey), nil })), router)
	}
	return coapnet.ListenAndServe("udp4", address, router)
}
