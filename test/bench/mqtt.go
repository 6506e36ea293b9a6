//go:build linux

package main

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// mqttContract lets devices publish below their own ids, and apps hear them. Nobody reaches the limits.
const mqttContract = `asyncapi: 3.0.0
info: {title: Bench, version: 1.0.0}
x-fieldgate: {api: bench, principal: {from: [token, mqtt.username], as: deviceId}}
channels:
  raw: {address: 'bench/{deviceId}/raw', parameters: {deviceId: {$ref: '#/components/parameters/deviceId'}}, messages: {raw: {contentType: application/octet-stream}}}
  checked: {address: 'bench/{deviceId}/checked', parameters: {deviceId: {$ref: '#/components/parameters/deviceId'}}, messages: {reading: {$ref: '#/components/messages/reading'}}}
  commands: {address: 'bench/{deviceId}/commands', parameters: {deviceId: {$ref: '#/components/parameters/deviceId'}}, messages: {raw: {contentType: application/octet-stream}}}
operations:
  reportRaw: {action: receive, channel: {$ref: '#/channels/raw'}, bindings: {mqtt: {qos: 1}}, x-fieldgate: {access: [device], policies: [{rate: 1000000/s, key: deviceId}]}}
  reportChecked: {action: receive, channel: {$ref: '#/channels/checked'}, bindings: {mqtt: {qos: 1}}, x-fieldgate: {access: [device], policies: [{rate: 1000000/s, key: deviceId}]}}
  hearRaw: {action: send, channel: {$ref: '#/channels/raw'}, bindings: {mqtt: {qos: 1}}, x-fieldgate: {access: [app]}}
  hearChecked: {action: send, channel: {$ref: '#/channels/checked'}, bindings: {mqtt: {qos: 1}}, x-fieldgate: {access: [app]}}
  hearCommands: {action: send, channel: {$ref: '#/channels/commands'}, bindings: {mqtt: {qos: 1}}, x-fieldgate: {access: [device]}}
components:
  parameters: {deviceId: {x-fieldgate-bind: principal}}
  securitySchemes: {token: {type: userPassword}}
  messages:
    reading:
      contentType: application/json
      payload:
        type: object
        additionalProperties: false
        required: [seq, at, temp]
        properties:
          seq: {type: integer, minimum: 0, maximum: 4294967295}
          at: {type: integer, minimum: 0}
          temp: {type: number, minimum: -60, maximum: 125}
          u: {type: string, enum: [Cel, K]}
`

// mosquittoConfig loses nothing, and checks nothing.
const mosquittoConfig = `user root
allow_anonymous true
connection_messages false
log_type error
max_queued_messages 0
max_inflight_messages 0
max_connections -1
listener %s %s
listener %s %[2]s
certfile %[4]s
keyfile %[4]s
`

const (
	mqttFleet   = 15_000 // devices, of which some publish and all may be connected
	mqttWarming = 500 * time.Millisecond
)

// mqttBroker is a broker that runs.
type mqttBroker struct {
	server
	log    string   // file of its output
	tls    string   // host:port, if it has one
	tokens []string // of the devices by number; none: nobody needs one
	key    string   // of the app that hears
}

// device is how a device introduces itself.
func (b *mqttBroker) device(number int) mqttIdentity {
	id := mqttIdentity{client: mqttDevice(number)}
	if b.tokens != nil {
		id.user, id.password = id.client, b.tokens[number]
	}
	return id
}

// ear is how one of the app's connections introduces itself.
func (b *mqttBroker) ear(number int) mqttIdentity {
	id := mqttIdentity{client: fmt.Sprint("ear-", number)}
	if b.key != "" {
		id.user, id.password = "ear", b.key
	}
	return id
}

func mqttDevice(number int) string { return fmt.Sprintf("b%05d", number) }

// mqttCase is one kind of load.
type mqttCase struct {
	name, title             string
	qos                     byte
	publishers, subscribers int // of the same number each hears one; or all hear the only one
	rate                    int
	persistent              bool
	checked                 bool // Fieldgate checks the payload, and is compared to the case without
}

var mqttCases = []mqttCase{
	{name: "qos0", title: "50 → 50, QoS 0, saturated", publishers: 50, subscribers: 50},
	{name: "schema", title: "the same, payload checked by a JSON schema", publishers: 50, subscribers: 50, checked: true},
	{name: "paced", title: "50 → 50, QoS 0, 10,000/s", publishers: 50, subscribers: 50, rate: 10_000},
	{name: "fanout", title: "1 → 100, QoS 0, saturated", publishers: 1, subscribers: 100},
	{name: "qos1", title: "50 → 50, QoS 1, clean sessions, saturated", publishers: 50, subscribers: 50, qos: 1},
	{name: "durable", title: "50 → 50, QoS 1, persistent sessions, saturated", publishers: 50, subscribers: 50, qos: 1, persistent: true},
}

// mqttResult is what one broker did in one round of a case.
type mqttResult struct {
	mqttFigures
	micros, ratio float64
	memory        float64
}

// mqtt measures what a delivered message costs in Fieldgate and in mosquitto, in turn.
func (b *bench) mqtt() error {
	mosquitto, err := b.mosquitto("mosquitto", "")
	if err != nil {
		return err
	}
	durable, err := b.mosquitto("mosquitto-durable", "persistence true\npersistence_location "+b.folder+"/\n")
	if err != nil {
		return err
	}
	fieldgate, err := b.mqttGateway("mqtt")
	if err != nil {
		return err
	}
	results := map[string]*[2][]mqttResult{}
	for round := range b.rounds {
		for _, c := range mqttCases {
			if !b.wanted(c.name) {
				continue
			}
			if round == 0 {
				results[c.name] = new([2][]mqttResult)
			}
			yardstick := mosquitto
			if c.persistent {
				yardstick = durable
			}
			for i, broker := range []*mqttBroker{yardstick, fieldgate} {
				r, err := b.mqttLoad(c, broker)
				if err != nil {
					log, _ := os.ReadFile(broker.log) // may say why
					return fmt.Errorf("%s, %s: %w\n%s", c.name, broker.name, err, log[max(len(log)-2000, 0):])
				}
				r.ratio = 1
				if i == 1 {
					r.ratio = r.micros / results[c.name][0][round].micros
				}
				results[c.name][i] = append(results[c.name][i], r)
			}
		}
	}
	if len(results) == 0 {
		return nil
	}
	fmt.Println("| MQTT 3.1.1, 64 bytes | broker | CPU µs per delivery | × mosquitto in the same round: median (least … most) | delivered/s | lost, twice | p50, p99 in ms | RSS MB |\n|---|---|---|---|---|---|---|---|")
	for _, c := range mqttCases {
		if results[c.name] == nil {
			continue
		}
		for i, list := range results[c.name] {
			lost, twice := 0, 0
			for _, r := range list {
				lost, twice = lost+r.lost, twice+r.twice
			}
			byRatio := func(a, b mqttResult) int { return cmp.Compare(a.ratio, b.ratio) }
			fmt.Printf("| %s | %s | %.2f | **%.2f** (%.2f … %.2f) | %.0f | %d, %d | %s, %s | %.0f |\n", c.title, []string{"mosquitto", "Fieldgate"}[i],
				median(list, func(r mqttResult) float64 { return r.micros }), median(list, func(r mqttResult) float64 { return r.ratio }),
				slices.MinFunc(list, byRatio).ratio, slices.MaxFunc(list, byRatio).ratio,
				median(list, func(r mqttResult) float64 { return float64(r.delivered) / r.took.Seconds() }), lost, twice,
				milliseconds(median(list, func(r mqttResult) time.Duration { return r.p50 })), milliseconds(median(list, func(r mqttResult) time.Duration { return r.p99 })),
				median(list, func(r mqttResult) float64 { return r.memory }))
		}
	}
	return nil
}

// wanted says whether a case of MQTT is to run.
func (b *bench) wanted(name string) bool {
	return b.cases == "" || slices.Contains(strings.Split(b.cases, ","), name)
}

// mqttLoad connects the clients of a case, loads the broker, and disconnects them.
func (b *bench) mqttLoad(c mqttCase, broker *mqttBroker) (r mqttResult, err error) {
	load, err := newMQTTLoad(c.qos)
	if err != nil {
		return r, err
	}
	defer load.close()
	word := "raw"
	if c.checked {
		word = "checked"
	}
	topic := func(device int) string { return "bench/" + mqttDevice(device) + "/" + word }
	ears := make([][]*mqttClient, c.publishers)
	for i := range c.subscribers {
		id := broker.ear(i)
		id.persistent = c.persistent
		ear, err := load.subscribe(broker.address, id, topic(i%c.publishers))
		if err != nil {
			return r, err
		}
		ears[i%c.publishers] = append(ears[i%c.publishers], ear)
	}
	for i := range c.publishers {
		id := broker.device(i)
		id.persistent = c.persistent
		if err := load.publish(broker.address, id, topic(i), ears[i]); err != nil {
			return r, err
		}
	}
	if _, err := load.run(mqttWarming, c.rate); err != nil {
		return r, err
	}
	time.Sleep(settle)
	before, err := cpu(broker.pid)
	if err != nil {
		return r, err
	}
	own := ownCPU()
	if r.mqttFigures, err = load.run(b.duration, c.rate); err != nil {
		return r, err
	}
	own = ownCPU() - own
	r.memory = resident(broker.pid)
	time.Sleep(settle)
	after, err := cpu(broker.pid)
	if err != nil {
		return r, err
	}
	if r.delivered == 0 {
		return r, fmt.Errorf("of %d messages none was delivered", load.publishers[0].sent)
	}
	r.micros = float64((after - before).Microseconds()) / float64(r.delivered)
	fmt.Fprintf(os.Stderr, "%s, %s: %.2f µs; the load generator took %.2f\n", c.name, broker.name, r.micros, float64(own.Microseconds())/float64(r.delivered))
	if c.persistent { // the sessions end
		for _, id := range load.identities {
			id.persistent = false
			if _, err := load.connect(broker.address, id); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// mosquitto starts Debian's mosquitto with a plain listener and one for TLS.
func (b *bench) mosquitto(name, settings string) (*mqttBroker, error) {
	broker := &mqttBroker{tls: freePort()}
	certificate := filepath.Join(b.folder, name+".pem")
	if err := writeCertificate(certificate); err != nil {
		return nil, err
	}
	address := freePort()
	host, port, _ := strings.Cut(address, ":")
	var err error
	broker.server, err = b.peer(name, "mosquitto", address, settings+fmt.Sprintf(mosquittoConfig, port, host, strings.TrimPrefix(broker.tls, host+":"), certificate), "-c")
	return broker, err
}

// writeCertificate writes a key and a certificate of its own, as Fieldgate's are: ECDSA with P-256.
func writeCertificate(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})...)
	return os.WriteFile(path, text, 0o644) // mosquitto may give up root before it reads it
}

// mqttGateway starts Fieldgate with a contract, a fleet and an app.
func (b *bench) mqttGateway(name string) (*mqttBroker, error) {
	n, err := b.node(name, "127.0.0.1:9")
	if err != nil {
		return nil, err
	}
	broker := &mqttBroker{server: server{"Fieldgate", n.mqtt, n.process.Process.Pid}, tls: n.mqtts, log: n.process.Stdout.(*os.File).Name()}
	contract := filepath.Join(b.folder, name+".asyncapi.yaml")
	if err := os.WriteFile(contract, []byte(mqttContract), 0o600); err != nil {
		return nil, err
	}
	if _, err := b.fieldgate(n.config, "api", "publish", contract); err != nil {
		return nil, err
	}
	if broker.key, err = b.fieldgate(n.config, "app", "add", "ear", "--quiet"); err != nil {
		return nil, err
	}
	if broker.tokens, err = b.importFleet(n, name, mqttFleet, plainDevice); err != nil {
		return nil, err
	}
	// The last of them is known to the gateway.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		load, err := newMQTTLoad(0)
		if err != nil {
			return nil, err
		}
		_, err = load.subscribe(broker.address, broker.device(mqttFleet-1), "bench/"+mqttDevice(mqttFleet-1)+"/commands")
		load.close()
		if err == nil {
			return broker, nil
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
}
