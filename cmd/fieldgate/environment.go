package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"text/template"
	"time"

	"go.yaml.in/yaml/v4"

	"fieldgate"
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
	Data        string              `yaml:"data"`
	Listen      listen              `yaml:"listen"`
	AdminSocket string              `yaml:"admin-socket"`
	Upstreams   map[string]upstream `yaml:"upstreams"`
	Log         struct {
		Level slog.Level `yaml:"level"`
	} `yaml:"log"`

	path string // of the file
}

type listen struct {
	HTTP  string `yaml:"http"`
	MQTT  string `yaml:"mqtt"`
	CoAP  string `yaml:"coap"`
	Admin string `yaml:"admin"`
}

type upstream struct {
	Addresses      []string      `yaml:"addresses"`
	Timeout        time.Duration `yaml:"timeout"`
	ConnectTimeout time.Duration `yaml:"connect-timeout"`
	MaxConnections int           `yaml:"max-connections"`
}

func defaultEnvironment() environment {
	node, err := os.Hostname()
	if err != nil || !fieldgate.ValidIdentifier(node) {
		node = "fieldgate"
	}
	return environment{
		Node:        node,
		Data:        "data",
		Listen:      listen{HTTP: "127.0.0.1:8080", MQTT: "127.0.0.1:1883", CoAP: "127.0.0.1:5683", Admin: "127.0.0.1:8090"},
		AdminSocket: "admin.sock",
	}
}

// environmentTemplate is the environment file with a comment for each setting.
var environmentTemplate = template.Must(template.New("").Parse(`# The environment of one Fieldgate node: what contracts leave open. What is left out has the value shown here.

# Name of this node in records, and in what callers are told about a refusal.
node: {{.Node}}

# Folder of the database, the event streams, the operator token and the admin socket. Relative paths count from this file.
data: {{.Data}}

# Addresses to listen on; "off" switches one off. Keep admin on the loopback address.
listen:
  http: {{.Listen.HTTP}}
  mqtt: {{.Listen.MQTT}}
  coap: {{.Listen.CoAP}}
  admin: {{.Listen.Admin}}

# Socket file of the admin API, which the fieldgate commands use; relative paths count from the data folder.
admin-socket: {{.AdminSocket}}

# Services behind the gateway, by the names that contracts use (x-fieldgate: {upstream: ingest}). Several addresses are
# used in turn.
{{if .Upstreams}}upstreams:
{{range $name, $u := .Upstreams}}  {{$name}}: {addresses: [{{range $i, $a := $u.Addresses}}{{if $i}}, {{end}}{{printf "%q" $a}}{{end}}], timeout: {{$u.Timeout}}, connect-timeout: {{$u.ConnectTimeout}}}
{{end}}{{else}}upstreams: {}
#  ingest:
#    addresses: [http://127.0.0.1:9000]
#    timeout: 5s             # of a whole call, where the contract names none (default 30s)
#    connect-timeout: 1s     # default 2s
#    max-connections: 512    # at once, to each address
{{end}}
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

// readEnvironment reads and checks a file. What it leaves out has its default; paths in the result are usable as they are.
func readEnvironment(path string) (*environment, error) {
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
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !filepath.IsAbs(e.Data) {
		e.Data = filepath.Join(filepath.Dir(path), e.Data)
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
	for name, u := range e.Upstreams {
		if !fieldgate.ValidIdentifier(name) {
			return fmt.Errorf("upstreams: %q is no name: use letters, digits and . _ : -", name)
		}
		if len(u.Addresses) == 0 {
			return fmt.Errorf("upstreams.%s: addresses are missing, such as [http://127.0.0.1:9000]", name)
		}
		for _, address := range u.Addresses {
			if parsed, err := url.Parse(address); err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
				return fmt.Errorf("upstreams.%s: %q is no address: give http://HOST:PORT or https://HOST:PORT", name, address)
			}
		}
		if u.Timeout < 0 || u.ConnectTimeout < 0 || u.MaxConnections < 0 {
			return fmt.Errorf("upstreams.%s: timeouts and max-connections must not be negative", name)
		}
	}
	return nil
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
		{"listen.mqtt", "tcp", &e.Listen.MQTT},
		{"listen.coap", "udp", &e.Listen.CoAP},
		{"listen.admin", "tcp", &e.Listen.Admin},
	}
}

// upstreamList is the upstreams in the order of their names.
func (e *environment) upstreamList() []fieldgate.Upstream {
	list := make([]fieldgate.Upstream, 0, len(e.Upstreams))
	for name, u := range e.Upstreams {
		list = append(list, fieldgate.Upstream{Name: name, Addresses: u.Addresses, ConnectTimeout: u.ConnectTimeout, Timeout: u.Timeout,
			MaxConnections: u.MaxConnections})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}
