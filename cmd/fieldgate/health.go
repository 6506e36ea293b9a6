package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"fieldgate/api"
	"fieldgate/engine/bus"
	"fieldgate/gateway"
)

// healthServer answers /healthz and /readyz of a node that has no admin API. A nil one does nothing.
type healthServer struct {
	listener net.Listener
	server   *http.Server
}

// listenHealth binds the address. The answers are those that the contract of the admin API describes.
func listenHealth(address string, g *gateway.Gateway, b *bus.Bus) (*healthServer, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program listens on %s (setting listen.health): stop it, or choose another address", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen.health: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { writeReadiness(w, g, b) })
	return &healthServer{listener, &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 4 << 10}}, nil
}

// writeReadiness tells whether the gateway can do its work. It can without the bus, as long as it has contracts.
func writeReadiness(w http.ResponseWriter, g *gateway.Gateway, b *bus.Bus) {
	readiness := api.Readiness{Ready: g.Ready(), Checks: []api.Check{{Name: api.CheckGateway, Ok: g.Ready()}, {Name: api.CheckBus, Ok: true}}}
	if b.Health() != nil {
		readiness.Checks[1].Ok, readiness.Checks[1].Since = false, b.Since().UTC()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !readiness.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(readiness) // an error means that the caller is gone
}

func (h *healthServer) address() string { return h.listener.Addr().String() }

// run serves until the context ends.
func (h *healthServer) run(ctx context.Context) error {
	if h == nil {
		<-ctx.Done()
		return nil
	}
	stop := context.AfterFunc(ctx, h.close)
	defer stop()
	if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("health: %w", err)
	}
	return nil
}

func (h *healthServer) close() {
	if h != nil {
		h.server.Close()
		h.listener.Close()
	}
}
