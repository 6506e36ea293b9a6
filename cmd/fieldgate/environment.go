package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v4"

	"fieldgate"
	"fieldgate/gateway/accesslog"
)

const (
	environmentName = "fieldgate.yaml"
	maxEnvironment  = 1 << 20
	off             = "off" // the address of a listener that is not wanted
)

// environment is what a node is told that no contract says: where it keeps its data, where it listens, and where the
// upstreams are that contracts name. It is read from the environment file, and written by "fieldgate init".
type environment struct {
	Node        string        `yaml:"node"`
	Role        role          `yaml:"role"`
	Data        string        `yaml:"data"`
	Store       storeSettings `yaml:"store"`
	Bus         busSettings   `yaml:"bus"`
	Listen      listen        `yaml:"listen"`
	TLS         webTLS        `yaml:"tls"`
	HTTP        web           `yaml:"http"`
	MQTT        mqttSettings  `yaml:"mqtt"`
	CoAP        coapSettings  `yaml:"coap"`
	AccessLog   accessLog     `yaml:"access-log"`
	AdminTLS    adminTLS      `yaml:"admin-tls"`
	AdminHosts  []string      `yaml:"admin-hosts"`
	AdminSocket string        `yaml:"admin-socket"`

	SecretsKeyFile    string   `yaml:"secrets-key-file"`
	DeviceAuthorities []string `yaml:"device-authorities"`
	DeviceIDFrom      string   `yaml:"device-id-from"`

	Upstreams map[string]upstream `yaml:"upstreams"`
	Zone      string              `yaml:"zone"`
	Log       struct {
		Level slog.Level `yaml:"level"`
	} `yaml:"log"`

	path string // of the file
}

// role is which of the two houses a node runs.
type role string

const (
	roleAll     role = "all"
	roleControl role = "control"
	roleGateway role = "gateway"
)

func (r role) hasControl() bool { return r != roleGateway }
func (r role) hasGateway() bool { return r != roleControl }

// storeSettings name the database of the control plane.
type storeSettings struct {
	URL          string `yaml:"url"`
	PasswordFile string `yaml:"password-file"`
}

// busSettings name the NATS servers that nodes meet on.
type busSettings struct {
	URL             string `yaml:"url"` // several separated by commas
	User            string `yaml:"user"`
	PasswordFile    string `yaml:"password-file"`
	TokenFile       string `yaml:"token-file"`
	CredentialsFile string `yaml:"credentials-file"`
	SeedFile        string `yaml:"seed-file"`
	CAFile          string `yaml:"ca-file"`
}

type listen struct {
	HTTP     string `yaml:"http"`
	HTTPS    string `yaml:"https"`
	HTTP3    string `yaml:"http3"`
	MQTT     string `yaml:"mqtt"`
	MQTTS    string `yaml:"mqtts"`
	CoAP     string `yaml:"coap"`
	CoAPS    string `yaml:"coaps"`
	CoAPTCP  string `yaml:"coap-tcp"`
	CoAPSTCP string `yaml:"coaps-tcp"`
	Admin    string `yaml:"admin"`
	Health   string `yaml:"health"`
}

// adminTLS is the certificate of the admin API and console, for an address that other machines reach.
type adminTLS struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

func defaultEnvironment() environment {
	node, err := os.Hostname()
	if err != nil || !fieldgate.ValidIdentifier(node) {
		node = "fieldgate"
	}
	return environment{
		Node:         node,
		Role:         roleAll,
		Data:         "data",
		Listen:       listen{HTTP: "127.0.0.1:8080", MQTT: "127.0.0.1:1883", CoAP: "127.0.0.1:5683", Admin: "127.0.0.1:8090", Health: "127.0.0.1:8091"},
		AdminSocket:  "admin.sock",
		DeviceIDFrom: deviceIDFromCN,
		TLS:          webTLS{MinVersion: "1.2"},
		MQTT:         mqttSettings{WebSocket: defaultWebSocketPath},
		CoAP:         coapSettings{WebSocket: defaultCoAPPath, ResourceDirectory: off},
		HTTP:         web{ForwardedIn: xForwarded, ForwardedOut: xForwarded, WebSocketIdle: defaultWebSocketIdle},
	}
}

// environmentTemplate is the environment file with a comment for each setting.
var environmentTemplate = template.Must(template.New("").Parse(webTemplate + mqttTemplate + coapTemplate + accessLogTemplate + upstreamsTemplate + `# The environment of one Fieldgate node: what contracts leave open. What is left out has the value shown here.

# Name of this node in records, and in what callers are told about a refusal.
node: {{.Node}}

# What this node runs: all (control plane and gateway), control, or gateway. Nodes with one role need the same bus, and those
# with the role control the same store.
role: {{.Role}}

# Database of the control plane: without a url a SQLite file in the data folder, or postgres://USER@HOST:5432/NAME.
store:
  url: {{printf "%q" .Store.URL}}
#  password-file: store.password

# Bus between the nodes: without a url inside this process, or a NATS cluster with JetStream, such as
# nats://10.0.0.1:4222,nats://10.0.0.2:4222 (tls:// with TLS). At most one of user with password-file, token-file,
# credentials-file (.creds) and seed-file (NKey); ca-file where the system does not trust the certificates.
bus:
  url: {{printf "%q" .Bus.URL}}
#  user: fieldgate
#  password-file: bus.password

# Folder of the database, the event streams, the operator token and the admin socket. Relative paths count from this file.
data: {{.Data}}

# Addresses to listen on; "off" switches one off. admin has the admin API and the console; another address than a loopback one
# needs admin-tls, and is used once the installation has been claimed. health answers /healthz and /readyz of a node without
# the control plane; the others answer them at admin.
listen:
  http: {{.Listen.HTTP}}
  https: {{if .Listen.HTTPS}}{{.Listen.HTTPS}}{{else}}off{{end}} # HTTP/1.1 and HTTP/2; needs a certificate: see tls
  http3: {{if .Listen.HTTP3}}{{.Listen.HTTP3}}{{else}}off{{end}} # over UDP, mostly at the port of https; needs a certificate, too
  mqtt: {{.Listen.MQTT}}
  mqtts: {{if .Listen.MQTTS}}{{.Listen.MQTTS}}{{else}}off{{end}} # MQTT over TLS, mostly at port 8883; needs a certificate, too
  coap: {{.Listen.CoAP}}
  coaps: {{if .Listen.CoAPS}}{{.Listen.CoAPS}}{{else}}off{{end}} # CoAP over DTLS, mostly at port 5684, for devices with a pre-shared key or a certificate
  coap-tcp: {{if .Listen.CoAPTCP}}{{.Listen.CoAPTCP}}{{else}}off{{end}} # CoAP over TCP, mostly at the port of coap, which is of UDP
  coaps-tcp: {{if .Listen.CoAPSTCP}}{{.Listen.CoAPSTCP}}{{else}}off{{end}} # and over TLS, mostly at port 5684; needs a certificate, too
  admin: {{.Listen.Admin}}
  health: {{.Listen.Health}}

# PEM files for listen.admin.
# admin-tls: {certificate: admin.pem, key: admin-key.pem}
# Names of a proxy on this machine by which the console is called.
# admin-hosts: [fieldgate.example.com]

# Socket file of the admin API, which the fieldgate commands use; relative paths count from the data folder.
admin-socket: {{.AdminSocket}}

# Pre-shared keys of devices are sealed by a secrets key. Of a single node it is secrets.key in the data folder, made when it is
# needed; several nodes are given the same file, as "openssl rand -hex 32" writes it.
# secrets-key-file: secrets.key

# Authorities (PEM files) whose certificates name devices, by the subject's common name (cn) or by a subjectAltName (san):
# urn:fieldgate:device:ID, or else the first DNS name. Devices show them to listen.https, http3 and mqtts, and over DTLS.
# device-authorities: [fleet-ca.pem]
device-id-from: {{.DeviceIDFrom}}

{{template "web" .}}
{{template "mqtt" .}}
{{template "coap" .}}
{{template "access-log" .}}
{{template "upstreams" .}}
log:
  level: {{.LogLevel}} # debug, info, warn or error
`))

// LogLevel is for the template.
func (e environment) LogLevel() string { return strings.ToLower(e.Log.Level.String()) }

// write creates the file; it never replaces one.
func (e environment) write(path string) error {
	var text bytes.Buffer
	if err := environmentTemplate.Execute(&text, e); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.Write(text.Bytes()); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// environmentPath is the file that a command was told to use, or the default.
func (c *cli) environmentPath() string {
	if c.config != "" {
		return c.config
	}
	if path := os.Getenv("FIELDGATE_CONFIG"); path != "" {
		return path
	}
	return environmentName
}

// readEnvironment reads and checks a file. What it leaves out has its default, overrides win over it; paths in the result are
// usable as they are.
func readEnvironment(path string, overrides ...func(*environment)) (*environment, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no environment file %s: run \"fieldgate init\", or name yours with --config or FIELDGATE_CONFIG", path)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxEnvironment+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxEnvironment {
		return nil, fmt.Errorf("%s is longer than %d bytes: it is no environment file", path, maxEnvironment)
	}
	e := defaultEnvironment()
	e.path = path
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&e); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", path, explainYAML(err))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: settings follow after a line ---: write all of them before it", path)
	}
	for _, override := range overrides {
		override(&e)
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("%s: %s%w", path, lineOf(text, err.Error()), err)
	}
	e.resolve(path)
	return &e, nil
}

// resolve makes the paths of a file usable as they are.
func (e *environment) resolve(path string) {
	if o := e.MQTT.OnRamp; o != nil && o.PasswordFile != "" && !filepath.IsAbs(o.PasswordFile) {
		o.PasswordFile = filepath.Join(filepath.Dir(path), o.PasswordFile)
	}
	for i := range e.DeviceAuthorities {
		if !filepath.IsAbs(e.DeviceAuthorities[i]) {
			e.DeviceAuthorities[i] = filepath.Join(filepath.Dir(path), e.DeviceAuthorities[i])
		}
	}
	for _, file := range append(append(e.TLS.files(), e.MQTT.Proxy.files()...), &e.SecretsKeyFile, &e.Data, &e.Store.PasswordFile, &e.Bus.PasswordFile, &e.Bus.TokenFile,
		&e.Bus.CredentialsFile, &e.Bus.SeedFile, &e.Bus.CAFile, &e.AccessLog.File, &e.AdminTLS.Certificate, &e.AdminTLS.Key) {
		if *file != "" && *file != accesslog.Standard && !filepath.IsAbs(*file) {
			*file = filepath.Join(filepath.Dir(path), *file)
		}
	}
	if !filepath.IsAbs(e.AdminSocket) {
		e.AdminSocket = filepath.Join(e.Data, e.AdminSocket)
	}
}

func (e *environment) check() error {
	if !fieldgate.ValidIdentifier(e.Node) {
		return fmt.Errorf("node: %q is no name: use letters, digits and . _ : -", e.Node)
	}
	if e.Data == "" || e.AdminSocket == "" {
		return errors.New("data and admin-socket must not be empty")
	}
	if o := e.MQTT.OnRamp; o != nil && o.Listen.MQTT == "" && o.Listen.MQTTS == "" {
		o.Listen.MQTT = defaultOnRamp
	}
	if o := e.CoAP.OnRamp; o != nil && o.Listen == "" {
		o.Listen = defaultCoAPOnRamp
	}
	for _, l := range e.listeners() {
		if *l.address == off {
			*l.address = ""
		}
		if *l.address == "" {
			continue
		}
		_, port, err := net.SplitHostPort(*l.address)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return fmt.Errorf("%s: %q is no address: give HOST:PORT, such as 127.0.0.1:8080, or off", l.setting, *l.address)
		}
	}
	if err := e.checkEngines(); err != nil {
		return err
	}
	if err := e.AccessLog.check(); err != nil {
		return fmt.Errorf("access-log.%w", err)
	}
	if err := e.checkWeb(); err != nil {
		return err
	}
	if err := e.MQTT.check(); err != nil {
		return fmt.Errorf("mqtt.%w", err)
	}
	if err := e.CoAP.check(e.MQTT.WebSocket, e.MQTT.Proxy.webSocket()); err != nil {
		return fmt.Errorf("coap.%w", err)
	}
	if err := e.checkDevices(); err != nil {
		return err
	}
	return cmp.Or(e.checkUpstreams(), e.checkCoAPOnRamp())
}

// listener is one address that the node listens on, with the setting that names it.
type listener struct {
	setting string
	network string
	address *string
}

func (e *environment) listeners() []listener {
	all := []listener{
		{"listen.http", "tcp", &e.Listen.HTTP},
		{"listen.https", "tcp", &e.Listen.HTTPS},
		{"listen.http3", "udp", &e.Listen.HTTP3},
		{"listen.mqtt", "tcp", &e.Listen.MQTT},
		{"listen.mqtts", "tcp", &e.Listen.MQTTS},
		{"listen.coap", "udp", &e.Listen.CoAP},
		{"listen.coaps", "udp", &e.Listen.CoAPS},
		{"listen.coap-tcp", "tcp", &e.Listen.CoAPTCP},
		{"listen.coaps-tcp", "tcp", &e.Listen.CoAPSTCP},
		{"listen.admin", "tcp", &e.Listen.Admin},
		{"listen.health", "tcp", &e.Listen.Health},
	}
	if o := e.CoAP.OnRamp; o != nil {
		all = append(all, listener{"coap.on-ramp.listen", "udp", &o.Listen})
	}
	if o := e.MQTT.OnRamp; o != nil {
		all = append(all, listener{"mqtt.on-ramp.listen.mqtt", "tcp", &o.Listen.MQTT}, listener{"mqtt.on-ramp.listen.mqtts", "tcp", &o.Listen.MQTTS})
	}
	if p := e.MQTT.Proxy; p != nil {
		all = append(all, listener{"mqtt.proxy.listen.mqtt", "tcp", &p.Listen.MQTT}, listener{"mqtt.proxy.listen.mqtts", "tcp", &p.Listen.MQTTS})
	}
	return all
}
