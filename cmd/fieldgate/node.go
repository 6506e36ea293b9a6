package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/console"
	"fieldgate/control"
	"fieldgate/control/access"
	"fieldgate/control/schema"
	"fieldgate/engine/bus"
	"fieldgate/engine/seal"
	"fieldgate/engine/store"
	"fieldgate/gateway"
	"fieldgate/gateway/pipeline"
)

// node is one or both houses in one process, on their engines.
type node struct {
	environment *environment
	token       string // of the operator; where there is a control plane
	lock        *os.File
	bus         *bus.Bus
	secrets     *seal.Keyring
	store       *store.Store
	control     *control.Control // nil with the role gateway
	gateway     *gateway.Gateway // nil with the role control
	health      *healthServer    // nil with a control plane
}

// openNode opens the engines and binds all addresses, so that what cannot work is known before anybody is served.
func openNode(ctx context.Context, e *environment, log *slog.Logger) (_ *node, err error) {
	n := &node{environment: e}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.lock, err = lockData(e.Data); err != nil {
		return nil, err
	}
	n.secrets = e.openSecrets()
	if problem := n.secrets.Problem(); problem != "" {
		log.Error("pre-shared keys of devices cannot be opened", "problem", problem)
	}
	if n.bus, err = e.openBus(log); err != nil {
		return nil, err
	}
	if e.Role.hasControl() {
		if err := n.openControl(ctx, log); err != nil {
			return nil, err
		}
	}
	if e.Role.hasGateway() {
		if err := n.openGateway(log); err != nil {
			if n.control != nil {
				n.control.Stop()
			}
			return nil, err
		}
	}
	return n, nil
}

// lockData keeps a second process out of the data folder for as long as this one lives.
func lockData(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another process uses the data folder %s: stop it, or choose another folder", folder)
		}
		return nil, err
	}
	return file, nil
}

func (n *node) openControl(ctx context.Context, log *slog.Logger) error {
	e := n.environment
	operator, token, err := access.LoadOperator(e.Data)
	if err != nil {
		return err
	}
	n.token = token
	location, err := e.storeLocation()
	if err != nil {
		return err
	}
	if n.store, err = store.Open(ctx, location, schema.Migrations); err != nil {
		return err
	}
	started := control.New(control.Config{
		Store: n.store, Bus: n.bus, Secrets: n.secrets, Log: log,
		Operator: operator, Listen: e.Listen.Admin, Certificate: e.AdminTLS.Certificate, Key: e.AdminTLS.Key, Hosts: e.AdminHosts,
		Socket: e.AdminSocket, Console: console.Handler(), Role: string(e.Role), Engines: e.engines(), GatewayReady: n.gatewayReady, Link: link,
		Version: programVersion(), Node: e.Node, Listeners: n.gatewayListeners,
	})
	if err := started.Start(ctx); err != nil {
		if e.Listen.Admin != "" && !free("tcp", e.Listen.Admin) {
			err = fmt.Errorf("%w (setting listen.admin)", err)
		}
		return err
	}
	n.control = started
	return nil
}

func (n *node) openGateway(log *slog.Logger) (err error) {
	e := n.environment
	n.gateway, err = gateway.New(gateway.Config{
		Node: e.Node, Folder: e.gatewayFolder(),
		HTTP: e.Listen.HTTP, HTTPS: e.Listen.HTTPS, HTTP3: e.Listen.HTTP3, MQTT: e.Listen.MQTT, MQTTS: e.Listen.MQTTS, CoAP: e.Listen.CoAP, CoAPS: e.Listen.CoAPS, CoAPTCP: e.Listen.CoAPTCP, CoAPSTCP: e.Listen.CoAPSTCP,
		MQTTPath: e.MQTT.WebSocket, MQTTOrigins: e.MQTT.WebSocketOrigins, OnRamp: e.onRampListeners(), MQTTBounds: e.mqttBounds(), MQTTProxy: e.mqttProxy(),
		CoAPPath: e.CoAP.WebSocket, CoAPOrigins: e.CoAP.WebSocketOrigins, CoAPBounds: e.CoAP.bounds(), CoAPPeers: e.CoAP.peers(), CoAPSessions: e.CoAP.sessions(),
		ResourceDirectory: e.CoAP.ResourceDirectory == on, CoAPOnRamp: e.coapOnRampAddress(),
		Settings: e.gatewaySettings(), Bus: n.bus, Secrets: n.secrets, Logger: log,
	})
	if err != nil || n.control != nil || e.Listen.Health == "" {
		return err
	}
	n.health, err = listenHealth(e.Listen.Health, n.gateway, n.bus)
	return err
}

// link is what gateways do with contracts before they are in force.
func link(snapshot *fieldgate.Snapshot) error {
	_, err := pipeline.Link(snapshot, nil)
	return err
}

var errNoContracts = errors.New("it does not know the contracts yet")

// gatewayReady is why the gateway of this node cannot serve yet.
func (n *node) gatewayReady() error {
	if n.gateway != nil && !n.gateway.Ready() {
		return errNoContracts
	}
	return nil
}

// gatewayListeners are the addresses of the gateway, in the order of the environment file.
func (n *node) gatewayListeners() []api.Listener {
	var all []api.Listener
	if n.gateway == nil {
		return nil
	}
	addresses := n.gateway.Addresses()
	for _, name := range []string{"http", "https", "http3", "mqtt", "mqtts", "mqtt-ws", "mqtt-wss", "on-ramp", "on-ramp-tls", "mqtt-proxy", "mqtt-proxy-tls", "mqtt-proxy-ws", "mqtt-proxy-wss", "coap", "coap-on-ramp", "coaps", "coap-tcp", "coaps-tcp", "coap-ws", "coap-wss"} {
		address := addresses[name]
		path := n.environment.MQTT.WebSocket
		switch {
		case strings.HasPrefix(name, "mqtt-proxy"):
			path = n.environment.MQTT.Proxy.webSocket()
		case strings.HasPrefix(name, "coap"):
			path = n.environment.CoAP.WebSocket
		}
		switch {
		case path != "" && strings.HasSuffix(name, "-ws") && addresses["http"] != "":
			address = "ws://" + addresses["http"] + path
		case path != "" && strings.HasSuffix(name, "-wss") && addresses["https"] != "":
			address = "wss://" + addresses["https"] + path
		}
		if address != "" {
			all = append(all, api.Listener{Name: name, Address: address})
		}
	}
	return all
}

// listeners are all addresses of the node.
func (n *node) listeners() []api.Listener {
	var all []api.Listener
	if n.control != nil && n.control.Address() != "" {
		all = append(all, api.Listener{Name: "admin", Address: n.control.Address()})
	}
	all = append(all, n.gatewayListeners()...)
	if n.health != nil {
		all = append(all, api.Listener{Name: "health", Address: n.health.address()})
	}
	return all
}

// consoleAddress is the address of the console for a browser on this machine; empty where there is none.
func (n *node) consoleAddress() string {
	if n.control == nil || n.control.Address() == "" {
		return ""
	}
	return "http://" + n.control.Address() + "/"
}

// signInLink opens the console without a password, once, while the installation has not been claimed; else it is empty. The
// token is in the fragment, which browsers keep to themselves.
func (n *node) signInLink() string {
	if n.consoleAddress() == "" || n.control.SignInToken() == "" {
		return ""
	}
	return n.consoleAddress() + "#token=" + n.control.SignInToken()
}

// admin is a client of the node's own admin API.
func (n *node) admin() (*client.ClientWithResponses, error) {
	return client.Open("unix:"+n.environment.AdminSocket, n.token)
}

// run serves until the context ends or one house fails. The gateway ends first, so that its last Records are still taken in.
func (n *node) run(ctx context.Context) error {
	defer n.close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go giveMemoryBack(ctx)
	if n.gateway == nil {
		return n.control.Run(ctx)
	}
	if n.control == nil {
		healthEnded := make(chan error, 1)
		go func() {
			healthEnded <- n.health.run(ctx)
			stop()
		}()
		err := n.gateway.Run(ctx)
		stop()
		return errors.Join(err, <-healthEnded)
	}
	controlContext, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	defer stopControl()
	controlEnded := make(chan error, 1)
	go func() {
		controlEnded <- n.control.Run(controlContext)
		stop()
	}()
	err := n.gateway.Run(ctx)
	stopControl()
	return errors.Join(err, <-controlEnded)
}

func (n *node) close() {
	n.health.close()
	if n.bus != nil {
		n.bus.Close()
	}
	if n.store != nil {
		n.store.Close()
	}
	if n.lock != nil {
		n.lock.Close()
	}
}
