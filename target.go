package fieldgate

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// MaxAddressBytes bounds the text of a Target's address.
const MaxAddressBytes = 300

// TargetAddress is the address of a Target, taken apart.
type TargetAddress struct {
	Scheme    TargetScheme
	Authority string // as it was written: the Host field of calls
	Host      string // name or numeric address, without brackets
	Port      string // that of the scheme where the text has none
}

// TargetScheme says which protocol a target speaks.
type TargetScheme string

const (
	SchemeHTTP  TargetScheme = "http"
	SchemeHTTPS TargetScheme = "https"
	SchemeCoAP  TargetScheme = "coap"  // over UDP
	SchemeCoAPS TargetScheme = "coaps" // over DTLS

	SchemeCoAPTCP  TargetScheme = "coap+tcp"
	SchemeCoAPSTCP TargetScheme = "coaps+tcp" // over TLS
)

var defaultPorts = map[TargetScheme]string{SchemeHTTP: "80", SchemeHTTPS: "443", SchemeCoAP: "5683", SchemeCoAPS: "5684", SchemeCoAPTCP: "5683", SchemeCoAPSTCP: "5684"}

// Secure says whether the target proves who it is, and nobody on the way can read or change anything.
func (s TargetScheme) Secure() bool {
	return s == SchemeHTTPS || s == SchemeCoAPS || s == SchemeCoAPSTCP
}

// CoAP says whether the target speaks CoAP, and otherwise HTTP.
func (s TargetScheme) CoAP() bool { return s == SchemeCoAP || s == SchemeCoAPS || s.CoAPStream() }

// CoAPStream says whether the target speaks CoAP over connections (RFC 8323).
func (s TargetScheme) CoAPStream() bool { return s == SchemeCoAPTCP || s == SchemeCoAPSTCP }

// String is the address in one form for all ways to write it, such as http://10.0.0.1:80.
func (a TargetAddress) String() string {
	return string(a.Scheme) + "://" + net.JoinHostPort(strings.ToLower(a.Host), a.Port)
}

// ParseTargetAddress reads http://host[:port], or the same with another scheme.
func ParseTargetAddress(text string) (TargetAddress, error) {
	parsed, err := url.Parse(text)
	if err != nil || len(text) > MaxAddressBytes || parsed.Hostname() == "" || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" ||
		parsed.Path != "" && parsed.Path != "/" || !HostCharacters(parsed.Host) {
		return TargetAddress{}, fmt.Errorf("address %.300q is not of the form http://host:port", text)
	}
	a := TargetAddress{Scheme: TargetScheme(parsed.Scheme), Authority: parsed.Host, Host: parsed.Hostname(), Port: parsed.Port()}
	port, known := defaultPorts[a.Scheme]
	if !known {
		return TargetAddress{}, fmt.Errorf("address %q: the scheme must be http, https, coap, coaps, coap+tcp or coaps+tcp", text)
	}
	if a.Port == "" {
		a.Port = port
	}
	if number, err := strconv.ParseUint(a.Port, 10, 16); err != nil || number == 0 {
		return TargetAddress{}, fmt.Errorf("address %q: the port must be 1 to 65535", text)
	}
	return a, nil
}

// HostCharacters reports whether text holds only what host names, numeric addresses and ports are written with: it becomes part of
// requests.
func HostCharacters(text string) bool {
	for _, c := range []byte(text) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(".-_:[]%", c) >= 0) {
			return false
		}
	}
	return true
}

// Check says what is wrong with a target; a weight of 0 stands for 1.
func (t *Target) Check() error {
	if _, err := ParseTargetAddress(t.Address); err != nil {
		return err
	}
	switch {
	case t.Weight < 0 || t.Weight > MaxWeight:
		return fmt.Errorf("address %s: the weight must be 1 to %d", t.Address, MaxWeight)
	case t.Priority < 0 || t.Priority > MaxPriority:
		return fmt.Errorf("address %s: the priority must be 0 to %d", t.Address, MaxPriority)
	case len(t.Zone) > MaxZone:
		return fmt.Errorf("address %s: the zone's name is longer than %d bytes", t.Address, MaxZone)
	}
	return nil
}
