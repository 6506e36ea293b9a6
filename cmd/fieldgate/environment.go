package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
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
	Node        string              `yaml:"node"`
	Role        role                `yaml:"role"`
	Data        string              `yaml:"data"`
	Store       storeSettings       `yaml:"store"`
	Bus         busSettings         `yaml:"bus"`
	Listen      listen              `yaml:"listen"`
	TLS         webTLS              `yaml:"tls"`
	HTTP        web                 `yaml:"http"`
	AccessLog   accessLog           `yaml:"access-log"`
	AdminTLS    adminTLS            `yaml:"admin-tls"`
	AdminHosts  []string            `yaml:"admin-hosts"`
	AdminSocket string              `yaml:"admin-socket"`
	Upstreams   map[string]upstream `yaml:"upstreams"`
	Zone        string              `yaml:"zone"`
	Log         struct {
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
	HTTP   string `yaml:"http"`
	HTTPS  string `yaml:"https"`
	HTTP3  string `yaml:"http3"`
	MQTT   string `yaml:"mqtt"`
	CoAP   string `yaml:"coap"`
	Admin  string `yaml:"admin"`
	Health string `yaml:"health"`
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
		Node:        node,
		Role:        roleAll,
		Data:        "data",
		Listen:      listen{HTTP: "127.0.0.1:8080", MQTT: "127.0.0.1:1883", CoAP: "127.0.0.1:5683", Admin: "127.0.0.1:8090", Health: "127.0.0.1:8091"},
		AdminSocket: "admin.sock",
		TLS:         webTLS{MinVersion: "1.2"},
		HTTP:        web{ForwardedIn: xForwarded, ForwardedOut: xForwarded},
	}
}

// environmentTemplate is the environment file with a comment for each setting.
var environmentTemplate = template.Must(template.New("").Parse(webTemplate + accessLogTemplate + upstreamsTemplate + `# The environment of one Fieldgate node: what contracts leave open. What is left out has the value shown here.

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
  coap: {{.Listen.CoAP}}
  admin: {{.Listen.Admin}}
  health: {{.Listen.Health}}

# PEM files for listen.admin.
# admin-tls: {certificate: admin.pem, key: admin-key.pem}
# Names of a proxy on this machine by which the console is called.
# admin-hosts: [fieldgate.example.com]

# Socket file of the admin API, which the fieldgate commands use; relative paths count from the data folder.
admin-socket: {{.AdminSocket}}

{{template "web" .}}
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
	for _, override := range overrides {
		override(&e)
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, file := range append(e.TLS.files(), &e.Data, &e.Store.PasswordFile, &e.Bus.PasswordFile, &e.Bus.TokenFile,
		&e.Bus.CredentialsFile, &e.Bus.SeedFile, &e.Bus.CAFile, &e.AccessLog.File, &e.AdminTLS.Certificate, &e.AdminTLS.Key) {
		if *file != "" && *file != accesslog.Standard && !filepath.IsAbs(*file) {
			*file = filepath.Join(filepath.Dir(path), *file)
		}
	}
	if !filepath.IsAbs(e.AdminSocket) {
		e.AdminSocket = filepath.Join(e.Data, e.AdminSocket)
	}
	return &e, nil
}

var unknownSetting = regexp.MustCompile(`field (\S+) not found in type [^\n]+`)

var goStruct = regexp.MustCompile(`(struct \{[^\n]*\}|main\.\w+)`)

var errorsOf = regexp.MustCompile(`^\w+ errors:\s+`)

// explainYAML puts the library's words into ours; lines stay.
func explainYAML(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = errorsOf.ReplaceAllString(text, "")
	text = unknownSetting.ReplaceAllString(text, `there is no setting "$1" here`)
	text = goStruct.ReplaceAllString(text, "a group of settings")
	return strings.ReplaceAll(text, "\n  ", "; ")
}

func (e *environment) check() error {
	if !fieldgate.ValidIdentifier(e.Node) {
		return fmt.Errorf("node: %q is no name: use letters, digits and . _ : -", e.Node)
	}
	if e.Data == "" || e.AdminSocket == "" {
		return errors.New("data and admin-socket must not be empty")
	}
	for _, l := range e.listeners() {
		if *l.address == off {
			*l.address = ""
		}
		if *l.address == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(*l.address); err != nil {
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
	return e.checkUpstreams()
}

// listener is one address that the node listens on, with the setting that names it.
type listener struct {
	setting string
	network string
	address *string
}

func (e *environment) listeners() []listener {
	return []listener{
		{"listen.http", "tcp", &e.Listen.HTTP},
		{"listen.https", "tcp", &e.Listen.HTTPS},
		{"listen.http3", "udp", &e.Listen.HTTP3},
		{"listen.mqtt", "tcp", &e.Listen.MQTT},
		{"listen.coap", "udp", &e.Listen.CoAP},
		{"listen.admin", "tcp", &e.Listen.Admin},
		{"listen.health", "tcp", &e.Listen.Health},
	}
}
