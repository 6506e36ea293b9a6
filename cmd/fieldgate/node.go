package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/control"
	"fieldgate/control/access"
	"fieldgate/control/schema"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
	"fieldgate/gateway"
)

// node is both houses in one process, on embedded engines.
type node struct {
	environment *environment
	token       string // of the operator
	bus         *bus.Bus
	store       *store.Store
	control     *control.Control
	gateway     *gateway.Gateway
}

// openNode opens the engines and binds all addresses, so that what cannot work is known before anybody is served.
func openNode(ctx context.Context, e *environment, log *slog.Logger) (_ *node, err error) {
	n := &node{environment: e}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := os.MkdirAll(e.Data, 0o700); err != nil {
		return nil, err
	}
	operator, token, err := access.LoadOperator(e.Data)
	if err != nil {
		return nil, err
	}
	n.token = token
	// The bus comes first: it holds the lock that keeps a second process out of the data folder.
	if n.bus, err = bus.Open(bus.Config{Directory: filepath.Join(e.Data, "bus"), Log: log}); err != nil {
		return nil, err
	}
	if n.store, err = store.Open(ctx, filepath.Join(e.Data, "fieldgate.db"), schema.Migrations); err != nil {
		return nil, err
	}
	upstreams := e.upstreamList()
	names := make([]string, len(upstreams))
	for i, u := range upstreams {
		names[i] = u.Name
	}
	started := control.New(control.Config{
		Store: n.store, Bus: n.bus, Log: log,
		Operator: operator, Listen: e.Listen.Admin, Socket: e.AdminSocket,
		Version: programVersion(), Node: e.Node, Upstreams: names, Listeners: n.listeners,
	})
	if err := started.Start(ctx); err != nil {
		if e.Listen.Admin != "" && !free("tcp", e.Listen.Admin) {
			err = fmt.Errorf("%w (setting listen.admin)", err)
		}
		return nil, err
	}
	n.control = started
	n.gateway, err = gateway.New(gateway.Config{
		Node: e.Node, Folder: filepath.Join(e.Data, "gateway"),
		HTTP: e.Listen.HTTP, MQTT: e.Listen.MQTT, CoAP: e.Listen.CoAP,
		Upstreams: upstreams, Bus: n.bus, Logger: log,
	})
	if err != nil {
		n.control.Stop()
		return nil, err
	}
	return n, nil
}

// listeners are the addresses of the gateway, in the order of the environment file.
func (n *node) listeners() []api.Listener {
	var all []api.Listener
	addresses := n.gateway.Addresses()
	for _, name := range []string{"http", "mqtt", "coap"} {
		if addresses[name] != "" {
			all = append(all, api.Listener{Name: name, Address: addresses[name]})
		}
	}
	return all
}

// admin is a client of the node's own admin API.
func (n *node) admin() (*client.ClientWithResponses, error) {
	return client.Open("unix:"+n.environment.AdminSocket, n.token)
}

// run serves until the context ends or one house fails. The gateway ends first, so that its last Records are still taken in.
func (n *node) run(ctx context.Context) error {
	defer n.close()
	gatewayContext, stopGateway := context.WithCancel(ctx)
	defer stopGateway()
	controlContext, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	defer stopControl()
	controlEnded := make(chan error, 1)
	go func() {
		controlEnded <- n.control.Run(controlContext)
		stopGateway()
	}()
	err := n.gateway.Run(gatewayContext)
	stopControl()
	return errors.Join(err, <-controlEnded)
}

func (n *node) close() {
	if n.bus != nil {
		n.bus.Close()
	}
	if n.store != nil {
		n.store.Close()
	}
}
