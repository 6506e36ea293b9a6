package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// diagnoseCoAP looks at how CoAP clients come in: whether anybody may, nobody can, or others can listen.
func (e *environment) diagnoseCoAP() (found []diagnosis) {
	if !e.Role.hasGateway() {
		return nil
	}
	warn := func(code, subject, message, remedy string) {
		found = append(found, diagnosis{severityWarning, code, subject, message, remedy})
	}
	if address := e.coapOnRampAddress(); !isLoopback(address) {
		warn("on-ramp-open", "coap.on-ramp", "Anybody who reaches this machine may ask for every path of the upstream of coap.on-ramp that no contract explains and deny does not name.",
			"Let coap.on-ramp.listen be an address of this machine or of a network of devices only, name in deny what nobody needs, and publish contracts for the rest.")
	}
	var plain []string
	if !isLoopback(e.Listen.CoAP) {
		plain = append(plain, "listen.coap")
	}
	if !isLoopback(e.Listen.CoAPTCP) {
		plain = append(plain, "listen.coap-tcp")
	}
	if len(plain) > 0 {
		warn("coap-plain", strings.Join(plain, ", "), fmt.Sprintf("What goes over %s is not encrypted: whoever is on the way reads it, tokens included, and may call with them.", strings.Join(plain, " and ")),
			"Have devices come by listen.coaps (DTLS) or listen.coaps-tcp (TLS) and set these to off, or keep the network between to yourselves.")
	}
	if e.Listen.CoAPS != "" && !e.TLS.hasCertificate() && !e.mayHavePSK() {
		warn("coaps-nobody", "listen.coaps", "Nobody can come by DTLS: the gateway has neither a certificate to show nor a key by which it could open pre-shared keys of devices.",
			"Give it a certificate (tls.certificates or tls.internal-ca), or devices pre-shared keys with \"fieldgate device psk\"; where the control plane is another node, set secrets-key-file to its secrets key.")
	}
	if e.CoAP.ResourceDirectory == on && !e.listensForCoAP() {
		warn("resource-directory-unreached", "coap.resource-directory", "The resource directory is on, and this node listens for no CoAP by which a device could register with it.",
			"Set listen.coap, listen.coaps or another listener of CoAP, or resource-directory: off. If devices come to other gateways on the same bus, all is well.")
	}
	return found
}

// hasCertificate says whether there is, or will be, a certificate to show.
func (t *webTLS) hasCertificate() bool {
	return len(t.Certificates) > 0 || len(t.InternalCA.Names) > 0 || len(t.ACME.Names) > 0
}

// mayHavePSK says whether the node can open pre-shared keys. That of a single node is made with the first of them.
func (e *environment) mayHavePSK() bool {
	file := e.SecretsKeyFile
	if file == "" && e.Role == roleAll && e.Bus.URL == "" {
		file = filepath.Join(e.Data, secretsKeyName)
	}
	_, err := os.Stat(file)
	return file != "" && err == nil
}

// listensForCoAP says whether any CoAP client can come to this node.
func (e *environment) listensForCoAP() bool {
	l := &e.Listen
	return l.CoAP != "" || l.CoAPS != "" || l.CoAPTCP != "" || l.CoAPSTCP != "" || e.CoAP.WebSocket != "" && (l.HTTP != "" || l.HTTPS != "")
}
