package h1

import (
	"bytes"
	"unicode/utf8"
)

// Form is the form of a request target (RFC 9112 §3.2).
type Form uint8

// Forms.
const (
	OriginForm    Form = iota // /where?q=now
	AbsoluteForm              // http://host/where?q=now
	AuthorityForm             // host:port, CONNECT only
	AsteriskForm              // *, OPTIONS only
)

// resolveTarget fills Form, Host, Path and Query from the target and the Host field (RFC 9112 §3.2, §3.3).
func (r *Request) resolveTarget(found *framingFields) error {
	if found.hosts > 1 || found.hosts == 0 && r.Minor == 1 {
		return ErrHost
	}
	if found.hosts == 1 && !validAuthority(found.host) {
		return ErrHost
	}
	r.Host, r.Path, r.Query = found.host, nil, nil

	target := r.Target
	switch {
	case string(r.Method) == "CONNECT": // RFC 9112 §3.2.3: a CONNECT target is host ":" port, and nothing else is
		colon := bytes.LastIndexByte(target, ':')
		if !validAuthority(target) || colon < 0 || colon == len(target)-1 || target[len(target)-1] == ']' {
			return ErrTarget
		}
		r.Form, r.Host = AuthorityForm, target
		return nil
	case target[0] == '/':
		r.Form = OriginForm
	case len(target) == 1 && target[0] == '*':
		if string(r.Method) != "OPTIONS" {
			return ErrTarget
		}
		r.Form = AsteriskForm
		return nil
	default:
		rest, ok := cutScheme(target)
		if !ok {
			return ErrTarget
		}
		r.Form = AbsoluteForm
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		if r.Host = rest[:end]; !validAuthority(r.Host) {
			return ErrTarget
		}
		// RFC 9112 §3.2: both are to be identical. §3.2.2 prefers the target's, but not every program does.
		if found.hosts == 1 && !EqualFold(r.Host, found.host) {
			return ErrHost
		}
		if target = rest[end:]; len(target) == 0 && string(r.Method) == "OPTIONS" {
			r.Form = AsteriskForm // RFC 9112 §3.2.4
			return nil
		}
	}

	path := target
	if mark := bytes.IndexByte(target, '?'); mark >= 0 {
		path, r.Query = target[:mark], target[mark+1:]
		if !validQuery(r.Query) {
			return ErrTarget
		}
	}
	var err error
	r.Path, r.scratch, err = normalizePath(path, r.scratch)
	return err
}

var rootPath = []byte("/")

func cutScheme(target []byte) (rest []byte, ok bool) {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(target) > len(scheme) && EqualFold(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return nil, false
}

// validAuthority accepts uri-host [ ":" port ] with a host that is not empty (RFC 9110 §4.2.1, §7.2). Userinfo is
// refused (RFC 9110 §4.2.4), and so is percent-encoding, which no DNS name needs.
func validAuthority(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	var port []byte
	if b[0] == '[' { // IP-literal
		end := bytes.IndexByte(b, ']')
		if end < 3 {
			return false
		}
		for _, c := range b[1:end] {
			if hexValue(c) < 0 && c != ':' && c != '.' {
				return false
			}
		}
		port = b[end+1:]
	} else {
		end := bytes.IndexByte(b, ':')
		if end < 0 {
			end = len(b)
		}
		if end == 0 || !allOf(hostByte, b[:end]) {
			return false
		}
		port = b[end:]
	}
	if len(port) == 0 {
		return true
	}
	if port[0] != ':' || len(port) > 6 {
		return false
	}
	for _, c := range port[1:] {
		if !isDigit(c) {
			return false
		}
	}
	return true
}

func validQuery(b []byte) bool {
	for i := 0; i < len(b); i++ {
		if class[b[i]]&queryByte != 0 {
			continue
		}
		if b[i] != '%' || i+2 >= len(b) || hexValue(b[i+1]) < 0 || hexValue(b[i+2]) < 0 {
			return false
		}
		i += 2
	}
	return true
}

// normalizePath returns the one reading of a path, in path itself when it already has that form, else in scratch.
//
//   - Percent triplets of unreserved characters are decoded, the others written with capitals (RFC 3986 §6.2.2).
//   - "." and ".." segments are resolved (RFC 3986 §5.2.4) and runs of "/" become one, since some servers do so and
//     others do not; what is forwarded is what was routed.
//   - Refused, because programs disagree about them: encoded "/", "\", "." standing for a dot segment, a dot segment with
//     parameters ("..;a"), controls and NUL, bytes that are no UTF-8 (overlong "/"), ".." above the root, and characters a URI cannot hold, "\" among them.
func normalizePath(path, scratch []byte) (normal, kept []byte, err error) {
	if len(path) == 0 {
		return rootPath, scratch, nil // RFC 9110 §4.2.3
	}
	plain := true
	for i, c := range path {
		if class[c]&pathByte == 0 {
			if c != '%' {
				return nil, scratch, ErrTarget
			}
			plain = false
		}
		if c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.') {
			plain = false
		}
	}
	if plain {
		return path, scratch, nil
	}

	out := scratch[:0]
	high := false // a byte above ASCII was encoded
	for len(path) > 0 {
		path = path[1:] // the "/" before the segment
		end := bytes.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		segment := path[:end]
		path = path[end:]
		switch {
		case len(segment) == 0 || string(segment) == ".":
			if len(path) == 0 {
				out = append(out, '/') // a directory stays one
			}
		case string(segment) == "..":
			parent := bytes.LastIndexByte(out, '/')
			if parent < 0 {
				return nil, scratch, ErrAmbiguousPath
			}
			if out = out[:parent]; len(path) == 0 {
				out = append(out, '/')
			}
		default:
			start := len(out)
			var segmentHigh bool
			if out, segmentHigh, err = appendSegment(append(out, '/'), segment); err != nil {
				return nil, scratch, err
			}
			high = high || segmentHigh
			if isDots(out[start+1:]) {
				return nil, scratch, ErrAmbiguousPath
			}
		}
	}
	if high && !decodesToUTF8(out) {
		return nil, scratch, ErrAmbiguousPath
	}
	return out, out, nil
}

// isDots reports whether a program that decodes a segment, or takes parameters off it (RFC 3986 §3.3), is left with a dot segment.
func isDots(segment []byte) bool {
	if segment[0] != '.' {
		return false
	}
	if segment = segment[1:]; len(segment) > 0 && segment[0] == '.' {
		segment = segment[1:]
	}
	return len(segment) == 0 || segment[0] == ';' || bytes.HasPrefix(segment, []byte("%3B"))
}

func appendSegment(out, segment []byte) (_ []byte, high bool, err error) {
	const capitals = "0123456789ABCDEF"
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c != '%' {
			out = append(out, c)
			continue
		}
		if i+2 >= len(segment) {
			return nil, false, ErrTarget
		}
		upper, under := hexValue(segment[i+1]), hexValue(segment[i+2])
		if upper < 0 || under < 0 {
			return nil, false, ErrTarget
		}
		i += 2
		switch c = byte(upper<<4 | under); {
		case c < 0x20 || c == 0x7f || c == '/' || c == '\\':
			return nil, false, ErrAmbiguousPath
		case class[c]&unreserved != 0:
			out = append(out, c)
		default:
			high = high || c >= 0x80
			out = append(out, '%', capitals[upper], capitals[under])
		}
	}
	return out, high, nil
}

// decodesToUTF8 checks a normalized path, in which bytes above ASCII stand only in triplets.
func decodesToUTF8(path []byte) bool {
	var sequence [utf8.UTFMax]byte
	n := 0
	for i := 0; i < len(path); {
		c := path[i]
		if c == '%' {
			c = byte(hexValue(path[i+1])<<4 | hexValue(path[i+2]))
			i += 2
		}
		i++
		if c < utf8.RuneSelf {
			if n > 0 {
				return false
			}
			continue
		}
		sequence[n] = c
		if n++; utf8.FullRune(sequence[:n]) {
			if _, size := utf8.DecodeRune(sequence[:n]); size == 1 { // utf8.RuneError
				return false
			}
			n = 0
		}
	}
	return n == 0
}
