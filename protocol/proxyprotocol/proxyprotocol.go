// Package proxyprotocol reads the header by which a proxy tells whose TCP connection it forwards: HAProxy's PROXY protocol, versions 1
// and 2 (proxy-protocol.txt, 2020/03/05 and later, whose sections the comments cite).
//
// The header can claim any source, so it must be read from proxies alone that are known by their own address (section 2).
package proxyprotocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
)

const (
	// MaxV1 bounds a line of version 1, with its CRLF (section 2.1).
	MaxV1 = 107
	// MaxV2 bounds what follows the first 16 bytes of version 2: addresses and extensions. The format allows 65,535, proxies send
	// some hundreds.
	MaxV2 = 4096

	minV1    = len("PROXY UNKNOWN\r\n")
	headV2   = 16
	addrsIP4 = 4 + 4 + 2 + 2
	addrsIP6 = 16 + 16 + 2 + 2
	addrsUn  = 108 + 108
)

// signature begins a header of version 2 (section 2.2).
var signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// ErrMalformed is wrapped by each error of Read that is the sender's fault. The connection has to be closed (section 2.1).
var ErrMalformed = errors.New("malformed PROXY header")

// Header is what the proxy says of the connection.
type Header struct {
	Version int // 1 or 2
	// Source and Destination are those of the connection that the proxy forwards. They are invalid where the receiver has to go by
	// the connection it has: the proxy speaks for itself, such as for a health check (LOCAL), or it does not know (UNKNOWN, UNSPEC),
	// or its client came by a Unix socket.
	Source, Destination netip.AddrPort
}

// Read reads a header and not a byte more. Deadlines are the caller's.
func Read(r io.Reader) (Header, error) {
	var buf [MaxV1]byte
	start := buf[:len(signature)]
	if err := read(r, start); err != nil {
		return Header{}, err
	}
	switch {
	case bytes.Equal(start, signature):
		return readV2(r, buf[:headV2])
	case bytes.HasPrefix(start, []byte("PROXY ")):
		return readV1(r, &buf)
	}
	return Header{}, malformed("it does not begin as one")
}

func read(r io.Reader, buf []byte) error {
	_, err := io.ReadFull(r, buf)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func malformed(why string) error { return fmt.Errorf("%w: %s", ErrMalformed, why) }

// readV1 reads the rest of a line (section 2.1). It has no length, so the end is looked for byte by byte.
func readV1(r io.Reader, buf *[MaxV1]byte) (Header, error) {
	n := minV1
	if err := read(r, buf[len(signature):n]); err != nil {
		return Header{}, err
	}
	for buf[n-2] != '\r' || buf[n-1] != '\n' {
		if n == MaxV1 {
			return Header{}, malformed("the line does not end within 107 bytes")
		}
		if err := read(r, buf[n:n+1]); err != nil {
			return Header{}, err
		}
		n++
	}
	h := Header{Version: 1}
	var err error
	h.Source, h.Destination, err = parseV1(buf[:n-2])
	return h, err
}

// parseV1 takes a line apart: "PROXY" SP family SP source SP destination SP source port SP destination port, one space each.
func parseV1(line []byte) (source, destination netip.AddrPort, err error) {
	fields := bytes.Split(line, []byte{' '})
	if string(fields[1]) == "UNKNOWN" { // what follows is to be ignored
		return source, destination, nil
	}
	if len(fields) != 6 {
		return source, destination, malformed("the line has not six fields")
	}
	six := string(fields[1]) == "TCP6"
	if !six && string(fields[1]) != "TCP4" {
		return source, destination, malformed("the family is none of TCP4, TCP6, UNKNOWN")
	}
	if source, err = addressV1(fields[2], fields[4], six); err == nil {
		destination, err = addressV1(fields[3], fields[5], six)
	}
	return source, destination, err
}

func addressV1(address, port []byte, six bool) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(string(address))
	if err != nil || ip.Is6() != six || ip.Zone() != "" {
		return netip.AddrPort{}, malformed("an address is not one of its family")
	}
	number, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, malformed("a port is no number up to 65535")
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), nil
}

// readV2 reads the rest of a header of version 2 (section 2.2).
func readV2(r io.Reader, head []byte) (Header, error) {
	h := Header{Version: 2}
	if err := read(r, head[len(signature):]); err != nil {
		return h, err
	}
	versionCommand, family, length := head[12], head[13], int(binary.BigEndian.Uint16(head[14:]))
	if versionCommand>>4 != 2 {
		return h, malformed("the version is not 2")
	}
	if length > MaxV2 {
		return h, malformed("it is longer than 4096 bytes")
	}
	rest := make([]byte, length) // bounded above
	if err := read(r, rest); err != nil {
		return h, err
	}
	switch versionCommand & 0xf {
	case 0: // LOCAL: the rest is to be discarded, the family ignored
		return h, nil
	case 1: // PROXY
	default:
		return h, malformed("the command is neither LOCAL nor PROXY")
	}
	var want int
	switch family {
	case 0x00: // UNSPEC
		return h, nil
	case 0x11, 0x12: // TCP and UDP over IPv4
		want = addrsIP4
	case 0x21, 0x22: // and over IPv6
		want = addrsIP6
	case 0x31, 0x32: // AF_UNIX, stream and datagram
		want = addrsUn
	default:
		return h, malformed("the family or transport is unknown")
	}
	if length < want {
		return h, malformed("the addresses are cut short")
	}
	switch want { // what follows the addresses is extensions (section 2.2), which are not needed here
	case addrsIP4:
		h.Source = addressV2(rest[:4], rest[8:])
		h.Destination = addressV2(rest[4:8], rest[10:])
	case addrsIP6:
		h.Source = addressV2(rest[:16], rest[32:])
		h.Destination = addressV2(rest[16:32], rest[34:])
	}
	return h, nil
}

func addressV2(address, port []byte) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(address) // of 4 or 16 bytes
	return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(port))
}
