package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/examples"
	"fieldgate/sim"
)

const (
	demoSeed     = 1
	demoInterval = 2 * time.Second // between two beats of a device
	demoLog      = "fieldgate.log"
	visitor      = "visitor"              // the device of the commands to try
	dashboard    = "dashboard"            // the app of the commands to try
	outcast      = "thermometer-mqtt-011" // in quarantine from the first run on
	demoPatience = 15 * time.Second
)

// demoCommands are to be pasted.
var demoCommands = template.Must(template.New("demo").Parse(`
Try in another terminal. A device and an app have these tokens, and the device a key for DTLS:

  export DEVICE={{.Device}} APP={{.App}} KEY={{.Key}}

One operation over three protocols, a payload that breaks the contract, and an answer that comes from the cache the second time:

  curl -i http://{{.HTTP}}/devices/visitor/telemetry {{.Bearer}} -H 'Content-Type: application/json' -d {{.Reading}}
  mosquitto_pub {{.AsDevice}} -q 1 -t d/visitor/telemetry -m {{.Reading}}
  coap-client-notls -m post -t 50 -O 65002,$DEVICE -e {{.Reading}} coap://{{.CoAP}}/t
  curl -i http://{{.HTTP}}/devices/visitor/telemetry {{.Bearer}} -H 'Content-Type: application/json' -d '{"temp":900}'
  {{.Fieldgate}} tls ca > {{.CA}}
  curl -i --cacert {{.CA}} https://{{.HTTPS}}/drugs/icu {{.Bearer}}

CoAP over DTLS and TCP, and what there is; a lamp that has registered is asked, and one that sleeps has a note once it wakes up, within a minute;
where a tracker is, and what a room is to be whose service speaks CoAP, whenever that changes; who observes:

{{with .Secure}}  {{.}} -m post -t 50 -u visitor -k $KEY -e {{$.Reading}} coaps://{{$.CoAPS}}/t
{{end}}  coap-client-notls -m get -O 65002,$DEVICE coap+tcp://{{.CoAPTCP}}/devices/visitor/state
  {{.Fieldgate}} coap get /.well-known/core
  curl -i http://{{.HTTP}}/lamps/{{.Lamp}}/time -H "Authorization: Bearer $APP"
  curl -i -X PUT http://{{.HTTP}}/lamps/{{.Sleeper}}/note -H "Authorization: Bearer $APP" -H 'Content-Type: text/plain' -d 'see you'
  {{.Fieldgate}} device commands {{.Sleeper}}
  FIELDGATE_TOKEN=$APP {{.Fieldgate}} coap observe /trackers/{{.Tracker}}/position
  curl -N http://{{.HTTP}}/rooms/r12/target -H "Authorization: Bearer $APP" -H 'Accept: text/event-stream'
  {{.Fieldgate}} coap peer list --filter observes:yes

MQTT: positions, each to one of a group; states, kept for who comes later (one tracker is cut off now and then, and its will says so); a request
and its answer; a topic of another device, which is refused. Then positions in a browser, and without MQTT:

  mosquitto_sub {{.AsApp}} -v -q 1 -t '$share/wall/tracker/+/position'
  mosquitto_sub {{.AsApp}} -v -q 1 -t 'tracker/+/status'
  mosquitto_rr {{.AsDevice}} -q 1 -t meter/visitor/reading -e fg/visitor/answers -m '{"litres":4711}' -F '%P %p'
  mosquitto_pub {{.AsDevice}} -q 1 -t d/thermometer-mqtt-001/telemetry -m {{.Reading}}
  {{.Console}}mqtt/live?topic=tracker/%2B/position
  curl -N http://{{.HTTP}}/trackers/{{.Tracker}}/position -H "Authorization: Bearer $APP" -H 'Accept: text/event-stream'

What was refused, a device in quarantine, and what an operator does:

  {{.Fieldgate}} traffic --status denied
  {{.Fieldgate}} device show {{.Outcast}}
  {{.Fieldgate}} device release {{.Outcast}}
  {{.Fieldgate}} device quarantine visitor
  {{.Fieldgate}} mqtt session list --filter state:connected
  {{.Fieldgate}} doctor

`))

var demoSize = sim.Size{MQTT: 100, CoAP: 60, HTTP: 40}

func newDemo() *cobra.Command {
	var d demo
	var limit time.Duration
	command := &cobra.Command{
		Use:   "demo",
		Short: "See it work: sample APIs, a simulated fleet of 200 devices, live traffic",
		Long: `Run Fieldgate with sample contracts, the services behind them and a simulated fleet of 200 devices, some of which misbehave,
and show the traffic. Ctrl-C ends it. A second run goes on with its data; delete the folder to start anew.`,
		Example: "  fieldgate demo\n  fieldgate demo --data /tmp/demo --for 30s",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			ctx := command.Context()
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			d.out, d.notes = command.OutOrStdout(), command.ErrOrStderr()
			return d.run(ctx)
		},
	}
	command.Flags().StringVar(&d.folder, "data", "demo-data", "folder for everything that the demo keeps")
	command.Flags().DurationVar(&limit, "for", 0, "end by itself after this time, such as 30s")
	command.Flags().BoolVar(&d.freePorts, "free-ports", false, "listen on any free ports rather than on the usual ones")
	return command
}

// demo is one run of the demonstration.
type demo struct {
	folder    string
	freePorts bool
	out       io.Writer // addresses, traffic, summary
	notes     io.Writer

	environment *environment
	log         *slog.Logger
	admin       *client.ClientWithResponses
	tokens      *demoTokens
	services    *sim.Services
	fleet       *sim.Fleet
}

func (d *demo) run(ctx context.Context) error {
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(d.folder, demoLog), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	d.log = newLogger(logFile, slog.LevelInfo)
	if d.services, err = sim.NewServices(demoSeed, d.log); err != nil {
		return err
	}
	if err := d.writeEnvironment(); err != nil {
		d.services.Close()
		return err
	}
	n, err := openNode(ctx, d.environment, d.log)
	if err != nil {
		d.services.Close()
		return err
	}
	// Everything stops in the order in which it depends on each other: devices, node, services.
	lasting := context.WithoutCancel(ctx)
	services := begin(lasting, d.services.Run)
	node := begin(lasting, n.run)
	err = d.show(ctx, n, node.ended)
	return errors.Join(err, node.stop(), services.stop())
}

// show publishes, registers and lets the fleet work until the context ends.
func (d *demo) show(ctx context.Context, n *node, nodeEnded <-chan struct{}) (err error) {
	if d.admin, err = n.admin(); err != nil {
		return err
	}
	if err := d.publishExamples(ctx); err != nil {
		return err
	}
	devices := sim.Plan(demoSize, demoSeed)
	if d.tokens, err = readDemoTokens(filepath.Join(d.folder, demoTokensName)); err != nil {
		return err
	}
	if err := d.register(ctx, devices); err != nil {
		return err
	}
	addresses := n.gateway.Addresses()
	d.fleet, err = sim.NewFleet(sim.Config{HTTP: addresses["http"], MQTT: addresses["mqtt"], CoAP: addresses["coap"], CoAPS: addresses["coaps"], CoAPTCP: addresses["coap-tcp"],
		Devices: d.tokens.withToken(devices), Tokens: d.tokens.Devices, Keys: d.tokens.pskBytes(), App: d.tokens.Apps[dashboard], Interval: demoInterval, Seed: demoSeed, Log: d.log})
	if err != nil {
		return err
	}
	if err := d.awaitGateway(ctx, addresses["http"]); err != nil {
		return err
	}
	status, err := d.admin.GetStatusWithResponse(ctx)
	if err != nil {
		return err
	}
	if err := d.printWelcome(status.JSON200, addresses, n); err != nil {
		return err
	}
	fleet := begin(context.WithoutCancel(ctx), d.fleet.Run)
	err = d.watch(ctx, nodeEnded)
	err = errors.Join(err, fleet.stop())
	if err == nil {
		d.printSummary()
	}
	return err
}

// writeEnvironment decides on addresses and writes the demo's own environment file, so that all commands work with it.
func (d *demo) writeEnvironment() error {
	e := defaultEnvironment()
	e.Node, e.Data = "demo", "."
	e.Upstreams = map[string]upstream{}
	e.Listen.MQTTS = "127.0.0.1:8883"
	e.Listen.CoAPS, e.Listen.CoAPTCP = "127.0.0.1:5684", "127.0.0.1:5683"
	e.CoAP.ResourceDirectory = on
	e.Listen.HTTPS, e.TLS.InternalCA.Names = "127.0.0.1:8443", []string{"localhost", "127.0.0.1"}
	for name, addresses := range d.services.Addresses() {
		u := upstream{Addresses: addresses, Timeout: 5 * time.Second, ConnectTimeout: time.Second}
		if len(addresses) > 1 { // one of them goes away now and then
			u.Balance = string(fieldgate.AlgorithmTwoChoices)
			u.Health = healthSettings{HTTP: sim.HealthPath, Interval: 2 * time.Second}
		}
		e.Upstreams[name] = u
	}
	for _, l := range e.listeners() {
		if *l.address == "" || !d.freePorts && free(l.network, *l.address) {
			continue
		}
		usual := *l.address
		address, err := freeAddress(l.network)
		if err != nil {
			return err
		}
		*l.address = address
		if !d.freePorts {
			fmt.Fprintf(d.notes, "%s is in use; %s is %s this time.\n", usual, l.setting, address)
		}
	}
	path := filepath.Join(d.folder, environmentName)
	// The services' ports are new each time, so the file is too.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := e.write(path); err != nil {
		return err
	}
	var err error
	d.environment, err = readEnvironment(path)
	return err
}

func free(network, address string) bool {
	closer, err := bind(network, address)
	if err != nil {
		return false
	}
	closer.Close()
	return true
}

func freeAddress(network string) (string, error) {
	bound, err := bind(network, "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer bound.Close()
	if l, ok := bound.(net.Listener); ok {
		return l.Addr().String(), nil
	}
	return bound.(net.PacketConn).LocalAddr().String(), nil
}

func bind(network, address string) (io.Closer, error) {
	if network == "udp" {
		return net.ListenPacket(network, address)
	}
	return net.Listen(network, address)
}

func (d *demo) publishExamples(ctx context.Context) error {
	entries, err := examples.Files.ReadDir(".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		document, err := examples.Files.ReadFile(entry.Name())
		if err != nil {
			return err
		}
		if _, err := publish(ctx, d.admin, contractFile{entry.Name(), document}, false); err != nil {
			return fmt.Errorf("publish %s: %w", entry.Name(), err)
		}
	}
	return nil
}

// awaitGateway waits until the gateway knows the contracts and the newest device.
func (d *demo) awaitGateway(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/devices/"+visitor+"/commands", nil)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+d.tokens.Devices[visitor])
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusUnauthorized {
				return nil
			}
			err = fmt.Errorf("the gateway answers %s", response.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not take over what was published: %w (see %s)", err, filepath.Join(d.folder, demoLog))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) printWelcome(status *api.Status, addresses map[string]string, n *node) error {
	program := os.Args[0]
	if filepath.Base(program) == program || strings.Contains(program, " ") {
		program = "fieldgate"
	}
	fmt.Fprintf(d.out, "Fieldgate demo: %s, %s, %d simulated devices\n\n", plural(status.Apis, "API"), plural(status.Devices, "device"), demoSize.MQTT+demoSize.CoAP+demoSize.HTTP)
	for _, l := range status.Listeners {
		fmt.Fprintf(d.out, "  %-8s %s\n", l.Name, l.Address)
	}
	if link := n.signInLink(); link != "" {
		fmt.Fprintf(d.out, "\nLook at it in the console; this link signs you in, once within 15 minutes:\n\n  %s\n", link)
	} else {
		fmt.Fprintf(d.out, "\nLook at it in the console: %s\n", n.consoleAddress())
	}
	host, port, _ := net.SplitHostPort(addresses["mqtt"])
	broker := "-V mqttv5 -h " + host + " -p " + port
	err := demoCommands.Execute(d.out, map[string]string{
		"Device": d.tokens.Devices[visitor], "App": d.tokens.Apps[dashboard], "Key": d.tokens.Keys[visitor], "Outcast": outcast,
		"Tracker": d.one(sim.Tracker, sim.Regular), "Lamp": d.one(sim.Lamp, sim.Regular), "Sleeper": d.one(sim.Lamp, sim.Sleeper),
		"HTTP": addresses["http"], "HTTPS": addresses["https"], "CoAP": addresses["coap"], "CoAPS": addresses["coaps"], "CoAPTCP": addresses["coap-tcp"],
		"Secure": secureClient(), "Console": n.consoleAddress(),
		"Fieldgate": program + " --config " + filepath.Join(d.folder, environmentName), "CA": filepath.Join(d.folder, "ca.pem"),
		"AsDevice": broker + " -u " + visitor + " -P $DEVICE", "AsApp": broker + " -u " + dashboard + " -P $APP",
		"Bearer": `-H "Authorization: Bearer $DEVICE"`, "Reading": `'{"ts":"2026-11-22T18:11:05Z","seq":1,"temp":21.5}'`,
	})
	for _, w := range status.Warnings {
		fmt.Fprintf(d.notes, "warning: %s; %s\n", w.Message, w.Remedy)
	}
	return err
}

// one is a device of a kind.
func (d *demo) one(product sim.Product, behaviour sim.Behaviour) string {
	for _, report := range d.fleet.Reports() {
		if report.Device.Product == product && report.Device.Behaviour == behaviour {
			return report.Device.ID
		}
	}
	return visitor
}

// secureClient is a client for CoAP over DTLS, if there is one: it comes with libcoap, built with one library for TLS or another.
func secureClient() string {
	for _, name := range []string{"coap-client-openssl", "coap-client-gnutls"} {
		if _, err := exec.LookPath(name); err == nil {
			return name
		}
	}
	return ""
}

// part is something that runs until it is stopped.
type part struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

func begin(ctx context.Context, run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(ctx)
	p := &part{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = run(ctx)
	}()
	return p
}

// stop ends the part and waits for it, but not forever.
func (p *part) stop() error {
	p.cancel()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(shutdownLimit):
		return fmt.Errorf("not everything ended within %s", shutdownLimit)
	}
}
