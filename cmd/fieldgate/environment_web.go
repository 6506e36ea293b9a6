package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fieldgate/gateway"
	"fieldgate/gateway/certificates"
	"fieldgate/gateway/httpfront"
	"fieldgate/protocol/h1"
)

// maxNames bounds each list of names and addresses in the environment file.
const maxNames = 100

// webTLS are the certificates of listen.https.
type webTLS struct {
	Certificates []certificateFiles `yaml:"certificates"`
	InternalCA   internalCA         `yaml:"internal-ca"`
	ACME         acmeSettings       `yaml:"acme"`
	MinVersion   string             `yaml:"min-version"`
}

// certificateFiles are a certificate with its chain, and its key, in PEM files.
type certificateFiles struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

type internalCA struct {
	Names []string `yaml:"names"`
}

type acmeSettings struct {
	Directory string   `yaml:"directory"`
	Email     string   `yaml:"email"`
	CAFile    string   `yaml:"ca-file"`
	Names     []string `yaml:"names"`
}

// web is how HTTP clients reach the gateway, directly or through proxies.
type web struct {
	RedirectToHTTPS bool   `yaml:"redirect-to-https"`
	HTTPSPort       uint16 `yaml:"https-port"`
	ProxyProtocol   struct {
		HTTP  []string `yaml:"http"`
		HTTPS []string `yaml:"https"`
	} `yaml:"proxy-protocol"`
	TrustedProxies []string        `yaml:"trusted-proxies"`
	ForwardedIn    forwardedFields `yaml:"forwarded-in"`
	ForwardedOut   forwardedFields `yaml:"forwarded-out"`
	RequestID      string          `yaml:"request-id"`
	StartTraces    bool            `yaml:"start-traces"`
	WebSocketIdle  time.Duration   `yaml:"websocket-idle"`
}

type forwardedFields string

const (
	xForwarded    forwardedFields = "x-forwarded"
	forwarded     forwardedFields = "forwarded"
	bothForwarded forwardedFields = "both"
)

var forwardedValues = map[forwardedFields]httpfront.ForwardedFields{
	xForwarded: httpfront.XForwarded, forwarded: httpfront.Forwarded, bothForwarded: httpfront.BothForwarded,
}

// webTemplate is the part of the environment file about TLS and HTTP.
const webTemplate = `{{define "web"}}# Certificates of listen.https, listen.http3, listen.mqtts and listen.coaps-tcp: any of PEM files, which are read again when they change; a certificate of this node's own authority
# ("fieldgate tls ca" prints what clients have to trust); and certificates from an ACME server, which has to reach this node at ports
# 443 or 80 of each name.
tls:
  min-version: "{{.TLS.MinVersion}}" # or "1.3"
#  certificates:
#    - {certificate: gateway.pem, key: gateway-key.pem} # the first is for clients that name no server
{{with .TLS.InternalCA.Names}}  internal-ca: {names: [{{range $i, $name := .}}{{if $i}}, {{end}}{{printf "%q" $name}}{{end}}]}
{{else}}#  internal-ca: {names: [gateway.lan, 192.168.1.5]}
{{end}}#  acme: {email: ops@example.com, names: [gateway.example.com]} # directory: and ca-file: of another server than Let's Encrypt

# HTTP clients: sent from listen.http to listen.https, which they reach by https-port if that is another one; proxies in front.
http:
  redirect-to-https: {{.HTTP.RedirectToHTTPS}}
#  https-port: 443
#  proxy-protocol: {https: [10.0.0.5]}  # proxies that begin each connection to a listener with a PROXY header; nobody else is let in
#  trusted-proxies: [10.0.0.0/8]        # proxies whose word is taken for the client's address and scheme
  forwarded-in: {{.HTTP.ForwardedIn}}   # fields that trusted proxies write: x-forwarded or forwarded (RFC 7239)
  forwarded-out: {{.HTTP.ForwardedOut}}  # fields that upstreams are told by: x-forwarded, forwarded or both
#  request-id: X-Request-Id             # field that tells callers and upstreams what an exchange is called
  start-traces: {{.HTTP.StartTraces}}           # requests without a W3C trace context (traceparent) get one
  websocket-idle: {{.HTTP.WebSocketIdle}}              # WebSockets passed through in which nobody says anything, not even a ping, are closed; 0s: never
{{end}}`

// checkWeb checks what HTTP clients meet.
func (e *environment) checkWeb() error {
	if err := e.TLS.check(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	given := len(e.TLS.Certificates) > 0 || len(e.TLS.InternalCA.Names) > 0 || len(e.TLS.ACME.Names) > 0
	if e.Listen.HTTP3 != "" && !given {
		return errors.New("listen.http3: there is no certificate: set tls.certificates, tls.internal-ca or tls.acme")
	}
	if e.Listen.MQTTS != "" && !given {
		return errors.New("listen.mqtts: there is no certificate: set tls.certificates, tls.internal-ca or tls.acme")
	}
	if e.Listen.CoAPSTCP != "" && !given {
		return errors.New("listen.coaps-tcp: there is no certificate: set tls.certificates, tls.internal-ca or tls.acme")
	}
	if o := e.MQTT.OnRamp; o != nil && o.Listen.MQTTS != "" && !given {
		return errors.New("mqtt.on-ramp: listen: mqtts: there is no certificate: set tls.certificates, tls.internal-ca or tls.acme")
	}
	if p := e.MQTT.Proxy; p != nil && p.Listen.MQTTS != "" && !given {
		return errors.New("mqtt.proxy: listen: mqtts: there is no certificate: set tls.certificates, tls.internal-ca or tls.acme")
	}
	if e.Listen.HTTPS != "" && !given {
		return errors.New("listen.https: there is no certificate: set tls.certificates, tls.internal-ca or tls.acme")
	}
	if err := e.HTTP.check(); err != nil {
		return fmt.Errorf("http.%w", err)
	}
	if e.HTTP.RedirectToHTTPS && (e.Listen.HTTP == "" || e.Listen.HTTPS == "") {
		return errors.New("http.redirect-to-https: this needs both listen.http and listen.https")
	}
	return nil
}

func (t *webTLS) check() error {
	for i, c := range t.Certificates {
		if c.Certificate == "" || c.Key == "" {
			return fmt.Errorf("certificates: number %d needs certificate and key, both paths of PEM files", i+1)
		}
	}
	if t.MinVersion != "1.2" && t.MinVersion != "1.3" {
		return fmt.Errorf("min-version: %q is none: write \"1.2\" or \"1.3\"", t.MinVersion)
	}
	if len(t.Certificates) > maxNames {
		return fmt.Errorf("certificates: at most %d", maxNames)
	}
	if err := checkNames(t.InternalCA.Names, func(name string) bool {
		_, err := netip.ParseAddr(name)
		return err == nil || validHostName(strings.TrimPrefix(name, "*."))
	}); err != nil {
		return fmt.Errorf("internal-ca.names: %w: write host names, *.HOST or addresses, such as gateway.lan or 192.168.1.5", err)
	}
	a := &t.ACME
	if err := checkNames(a.Names, func(name string) bool {
		_, err := netip.ParseAddr(name)
		return err != nil && validHostName(name) && strings.Contains(name, ".")
	}); err != nil {
		return fmt.Errorf("acme.names: %w: write whole host names, such as gateway.example.com; wildcards and addresses cannot be proved by HTTP or TLS", err)
	}
	if len(a.Names) == 0 && (a.Directory != "" || a.Email != "" || a.CAFile != "") {
		return errors.New("acme.names: they are missing, such as [gateway.example.com]")
	}
	if a.Directory != "" {
		if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("acme.directory: %q is no address: write that of the server's directory, such as https://ca.example.com/acme/acme/directory", a.Directory)
		}
	}
	if a.Email != "" {
		if parsed, err := mail.ParseAddress(a.Email); err != nil || parsed.Address != a.Email {
			return fmt.Errorf("acme.email: %q is no address of mail: write one such as ops@example.com", a.Email)
		}
	}
	return nil
}

func checkNames(names []string, valid func(string) bool) error {
	if len(names) > maxNames {
		return fmt.Errorf("at most %d", maxNames)
	}
	for i, name := range names {
		if !valid(name) {
			return fmt.Errorf("%q is none", name)
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("%q is there twice", name)
		}
	}
	return nil
}

// validHostName: RFC 1123 §2.1, in lower case.
func validHostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

func (w *web) check() error {
	for _, list := range []struct {
		setting string
		peers   []string
	}{{"proxy-protocol.http", w.ProxyProtocol.HTTP}, {"proxy-protocol.https", w.ProxyProtocol.HTTPS}, {"trusted-proxies", w.TrustedProxies}} {
		if err := checkPeers(list.setting, list.peers); err != nil {
			return err
		}
	}
	if w.ForwardedIn != xForwarded && w.ForwardedIn != forwarded {
		return fmt.Errorf("forwarded-in: %q is none: write x-forwarded or forwarded, whichever the proxies in front write", w.ForwardedIn)
	}
	if w.RequestID != "" && !validFieldName(w.RequestID) {
		return fmt.Errorf("request-id: %q is no name of a header field of its own: write one such as X-Request-Id", w.RequestID)
	}
	if forwardedValues[w.ForwardedOut] == 0 {
		return fmt.Errorf("forwarded-out: %q is none: write x-forwarded, forwarded or both", w.ForwardedOut)
	}
	if w.WebSocketIdle != 0 && w.WebSocketIdle < minWebSocketIdle {
		return fmt.Errorf("websocket-idle: %v is too short: write at least %v, such as 1h, or 0s for ever", w.WebSocketIdle, minWebSocketIdle)
	}
	return nil
}

// minWebSocketIdle is less than clients wait between two pings.
const (
	minWebSocketIdle     = 10 * time.Second
	defaultWebSocketIdle = time.Hour
)

// validFieldName says whether a name may be that of a field which Fieldgate adds (RFC 9110 §5.1).
func validFieldName(name string) bool {
	return h1.ValidName(name) && len(name) <= 64 && h1.KindOf(name) == h1.KindOther && !strings.EqualFold(name, "authorization") &&
		!strings.EqualFold(name, "cookie") && !strings.EqualFold(name, "date")
}

func checkPeers(setting string, list []string) error {
	if len(list) > maxNames {
		return fmt.Errorf("%s: at most %d", setting, maxNames)
	}
	for _, peer := range list {
		if _, err := parsePeer(peer); err != nil {
			return fmt.Errorf("%s: %q is no address: write one, such as 10.0.0.5, or a network, such as 10.0.0.0/8 or fd00::/8", setting, peer)
		}
	}
	return nil
}

// parsePeer reads an address or a network.
func parsePeer(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		if prefix != prefix.Masked() {
			return prefix, errors.New("bits beyond the network")
		}
		return prefix, nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		return netip.Prefix{}, errors.New("no address")
	}
	address = address.Unmap()
	return netip.PrefixFrom(address, address.BitLen()), nil
}

func peers(list []string) (all []netip.Prefix) {
	for _, text := range list {
		prefix, _ := parsePeer(text) // checked
		all = append(all, prefix)
	}
	return all
}

// files are the paths among the settings.
func (t *webTLS) files() []*string {
	all := []*string{&t.ACME.CAFile}
	for i := range t.Certificates {
		all = append(all, &t.Certificates[i].Certificate, &t.Certificates[i].Key)
	}
	return all
}

// gatewaySettings are those that can be changed while the gateway serves.
func (e *environment) gatewaySettings() gateway.Settings {
	settings := gateway.Settings{Upstreams: e.upstreamList(), AccessLog: e.AccessLog.settings(), MQTT: e.MQTT.settings(), CoAP: e.CoAP.settings(), Devices: e.deviceAuthorities()}
	if e.TLS.MinVersion == "1.3" {
		settings.TLS.MinVersion = tls.VersionTLS13
	}
	for _, c := range e.TLS.Certificates {
		settings.TLS.Files = append(settings.TLS.Files, certificates.File{Certificate: c.Certificate, Key: c.Key})
	}
	settings.TLS.InternalCA = e.TLS.InternalCA.Names
	if a := e.TLS.ACME; len(a.Names) > 0 {
		settings.TLS.ACME = &certificates.ACME{Directory: a.Directory, Email: a.Email, CAFile: a.CAFile, Names: a.Names}
	}
	settings.Web = gateway.Web{RedirectToHTTPS: e.HTTP.RedirectToHTTPS, HTTPSPort: e.HTTP.HTTPSPort, Settings: httpfront.Settings{
		ProxyProtocol: peers(e.HTTP.ProxyProtocol.HTTP), ProxyProtocolTLS: peers(e.HTTP.ProxyProtocol.HTTPS), TrustedProxies: peers(e.HTTP.TrustedProxies),
		ForwardedIn: forwardedValues[e.HTTP.ForwardedIn], ForwardedOut: forwardedValues[e.HTTP.ForwardedOut], RequestID: e.HTTP.RequestID, StartsTraces: e.HTTP.StartTraces,
		WebSocketIdle: e.HTTP.WebSocketIdle,
	}}
	return settings
}

func (e *environment) gatewayFolder() string { return filepath.Join(e.Data, "gateway") }

// tlsFolder has the node's own authority, and what an ACME server issued.
func (e *environment) tlsFolder() string { return gateway.TLSFolder(e.gatewayFolder()) }
