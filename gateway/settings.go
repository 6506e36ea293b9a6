package gateway

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"fieldgate"
	"fieldgate/gateway/certificates"
	"fieldgate/gateway/httpfront"
	"fieldgate/gateway/upstream"
)

// Settings are what Reload can replace while the gateway serves.
type Settings struct {
	Upstreams []fieldgate.Upstream
	TLS       certificates.Settings
	Web       Web
	AccessLog AccessLog
	MQTT      MQTT
	Devices   DeviceAuthorities
	CoAP      CoAP
}

// Web is how HTTP clients reach the gateway.
type Web struct {
	httpfront.Settings        // RedirectPort and Challenge are the gateway's own
	RedirectToHTTPS    bool   // plain requests are sent to the TLS listener
	HTTPSPort          uint16 // by which clients reach that; 0: the port it listens on
}

// Reload puts other settings into force for exchanges and handshakes to come; no connection is touched. After an error all is as it was.
// To be called by one goroutine at a time.
func (g *Gateway) Reload(settings Settings) error {
	if _, err := upstream.NewSet(settings.Upstreams); err != nil { // before a file is opened for nothing
		return err
	}
	applyTLS, err := g.certificates.Prepare(settings.TLS)
	if err != nil {
		return err
	}
	applyAccessLog, err := g.access.prepare(settings.AccessLog)
	if err != nil {
		return err
	}
	applyMQTT, err := g.mqtt.prepare(settings.MQTT)
	if err != nil {
		return err
	}
	applyProxy, err := g.proxy.prepare(settings.MQTT.Proxy)
	if err != nil {
		return err
	}
	authorities, err := settings.Devices.read(g.config.Logger)
	if err != nil {
		return err
	}
	if err := g.pipeline.Upstreams.Replace(settings.Upstreams); err != nil {
		return err
	}
	if err := g.coap.replace(&settings.CoAP); err != nil {
		return err
	}
	applyTLS()
	g.directory.SetAuthorities(authorities)
	applyMQTT()
	applyProxy()
	applyAccessLog()
	if g.web != nil {
		g.web.Replace(g.webSettings(settings))
	}
	g.targets.apply() // an upstream may take registered addresses from now on
	g.reportUpstreams()
	return nil
}

// webSettings are those of the HTTP front.
func (g *Gateway) webSettings(settings Settings) httpfront.Settings {
	web := settings.Web.Settings
	if settings.TLS.ACME != nil {
		web.Challenge = g.certificates.Challenge
	}
	if _, port, err := net.SplitHostPort(g.addresses["https"]); err == nil && settings.Web.RedirectToHTTPS {
		if web.RedirectPort = settings.Web.HTTPSPort; web.RedirectPort == 0 {
			number, _ := strconv.ParseUint(port, 10, 16) // of an address that is bound
			web.RedirectPort = uint16(number)
		}
	}
	return web
}

// TLSFolder is where the certificates are of a gateway whose folder that is.
func TLSFolder(folder string) string { return filepath.Join(folder, "tls") }

// openCertificates makes the certificates of the TLS listeners.
func (g *Gateway) openCertificates() (err error) {
	config := g.config
	g.certificates, err = certificates.New(certificates.Config{Folder: TLSFolder(config.Folder), Node: config.Node, Logger: config.Logger,
		TLSALPN01: config.HTTPS != "", HTTP01: config.HTTP != "", Changed: g.report, Asks: g.directory.Asks, Check: g.checkCertificate}, config.Settings.TLS)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	authorities, err := config.Settings.Devices.read(config.Logger)
	g.directory.SetAuthorities(authorities)
	return err
}
