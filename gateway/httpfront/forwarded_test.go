package httpfront

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"fieldgate/protocol/h1"
)

func (h hop) String() string {
	client := "?"
	if h.client.IsValid() {
		client = h.client.String()
	}
	return fmt.Sprintf("%s %s %s", client, []string{"?", "http", "https"}[h.proto], h.host)
}

func TestForwardedField(t *testing.T) {
	for _, test := range []struct{ clause, value, want string }{
		{"4, example 1", `for="_gazonk"`, "? ? "},
		{"4, example 2", `For="[2001:db8:cafe::17]:4711"`, "[2001:db8:cafe::17]:4711 ? "},
		{"4, example 3", `for=192.0.2.60;proto=http;by=203.0.113.43`, "192.0.2.60:0 http "},
		{"4, example 4", `for=192.0.2.43, for=198.51.100.17`, "192.0.2.43:0 ? |198.51.100.17:0 ? "},
		{"4: names in any case", `FOR=192.0.2.43;PROTO=HTTPS;HOST=a.example`, "192.0.2.43:0 https a.example"},
		{"4: a quoted token", `for="192.0.2.43";proto="https"`, "192.0.2.43:0 https "},
		{"4: empty pairs", `;for=192.0.2.43;;proto=http;`, "192.0.2.43:0 http "},
		{"4: space around the separator, which some write", `for=192.0.2.43 ; proto=https`, "192.0.2.43:0 https "},
		{"4: a comma and a semicolon that are quoted", `ext="a,b;for=6.6.6.6";for=192.0.2.43`, "192.0.2.43:0 ? "},
		{"4: a quote that is escaped", `ext="a\",for=6.6.6.6,\"";for=192.0.2.43`, "192.0.2.43:0 ? "},
		{"5.3: host with port", `host="a.example:8443"`, "? ? a.example:8443"},
		{"5.4: another scheme", `for=192.0.2.43;proto=coaps`, "192.0.2.43:0 ? "},
		{"6: unknown", `for=unknown`, "? ? "},
		{"6.1: IPv4 with port", `for="192.0.2.43:47011"`, "192.0.2.43:47011 ? "},
		{"6.1: IPv6", `for="[2001:db8::1]"`, "[2001:db8::1]:0 ? "},
		{"6.1: IPv6 without brackets, which some write", `for="2001:db8::1"`, "[2001:db8::1]:0 ? "},
		{"6.3: hidden port", `for="192.0.2.43:_hidden"`, "192.0.2.43:0 ? "},
		{"RFC 9110 5.6.1.2: empty elements", `, for=192.0.2.43 ,, for=198.51.100.17 ,`, "192.0.2.43:0 ? |198.51.100.17:0 ? "},
		{"RFC 9110 5.6.1.2: nothing", ` , `, ""},

		{"4: no value", `for=`, "refused"},
		{"4: no name", `=192.0.2.43`, "refused"},
		{"4: only a name", `for`, "refused"},
		{"4: twice in one element", `for=192.0.2.43;for=6.6.6.6`, "refused"},
		{"4: space before =", `for =192.0.2.43`, "refused"},
		{"4: space after =", `for= 192.0.2.43`, "refused"},
		{"4: unquoted colon", `for=192.0.2.43:80`, "refused"},
		{"4: unquoted brackets", `for=[2001:db8::1]`, "refused"},
		{"4: open quote", `for="192.0.2.43, for=198.51.100.17`, "refused"},
		{"4: quote in the middle", `for=192"0.2.43"`, "refused"},
		{"4: something after a quoted value", `for="192.0.2.43"x`, "refused"},
		{"4: escape at the end", `for="192.0.2.43\`, "refused"},
		{"4: escapes in an address", `for="\1\9\2.0.2.43"`, "refused"},
		{"6: a name", `for=localhost`, "refused"},
		{"6.1: IPv4 in brackets", `for="[192.0.2.43]"`, "refused"},
		{"6.1: leading zeros", `for=192.000.2.43`, "refused"},
		{"6.1: zone", `for="[fe80::1%eth0]"`, "refused"},
		{"6.1: after the brackets", `for="[2001:db8::1]x"`, "refused"},
		{"6: port too high", `for="192.0.2.43:65536"`, "refused"},
		{"6: port empty", `for="192.0.2.43:"`, "refused"},
		{"6: port signed", `for="192.0.2.43:+80"`, "refused"},
	} {
		hops, err := appendHops(nil, []byte(test.value))
		texts := make([]string, len(hops))
		for i := range hops {
			texts[i] = hops[i].String()
		}
		got := strings.Join(texts, "|")
		if errors.Is(err, errForwarded) {
			got = "refused"
		}
		if got != test.want {
			t.Errorf("RFC 7239 %s: %s: %q, want %q (%v)", test.clause, test.value, got, test.want, err)
		}
	}
	if _, err := appendHops(nil, []byte(strings.Repeat("for=192.0.2.1,", maxHops+1))); !errors.Is(err, errHops) {
		t.Errorf("too many hops: %v", err)
	}
}

func fields(lines ...string) (all h1.Fields) {
	for i := 0; i < len(lines); i += 2 {
		all = append(all, h1.Field{Name: []byte(lines[i]), Value: []byte(lines[i+1])})
	}
	return all
}

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// The source is the last address that no trusted proxy has; upstreams are told of addresses that are vouched for, and no others.
func TestOrigin(t *testing.T) {
	trusting := Settings{TrustedProxies: prefixes("10.0.0.0/8", "fd00::/8")}
	standard := Settings{TrustedProxies: trusting.TrustedProxies, ForwardedIn: Forwarded, ForwardedOut: Forwarded}
	both := Settings{TrustedProxies: trusting.TrustedProxies, ForwardedOut: BothForwarded}
	for _, test := range []struct {
		name     string
		settings Settings
		peer     string
		claimed  string // by a PROXY header
		secure   bool
		fields   h1.Fields
		source   string
		told     string // to upstreams; lines separated by |
	}{
		{"nobody is trusted", Settings{}, "192.0.2.9:1000", "", false, fields("X-Forwarded-For", "6.6.6.6", "X-Forwarded-Proto", "https", "Forwarded", "for=6.6.6.6"),
			"192.0.2.9:1000", "X-Forwarded-For: 192.0.2.9|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"the peer is not trusted", trusting, "192.0.2.9:1000", "", true, fields("X-Forwarded-For", "6.6.6.6", "X-Forwarded-Host", "evil"),
			"192.0.2.9:1000", "X-Forwarded-For: 192.0.2.9|X-Forwarded-Proto: https|X-Forwarded-Host: api.example"},
		{"one proxy", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "192.0.2.9", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "www.example"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.1|X-Forwarded-Proto: https|X-Forwarded-Host: www.example"},
		{"a proxy that says nothing", trusting, "10.0.0.1:1000", "", false, nil,
			"10.0.0.1:1000", "X-Forwarded-For: 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"what the client forged", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "6.6.6.6, 7.7.7.7, 192.0.2.9"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"a forged trusted address", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "10.6.6.6, 192.0.2.9"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"two proxies", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "6.6.6.6, 192.0.2.9, 10.0.0.2", "X-Forwarded-Proto", "https"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.2, 10.0.0.1|X-Forwarded-Proto: https|X-Forwarded-Host: api.example"},
		{"two proxies, a scheme for each", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "192.0.2.9, 10.0.0.2", "X-Forwarded-Proto", "https, http"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.2, 10.0.0.1|X-Forwarded-Proto: https|X-Forwarded-Host: api.example"},
		{"two field lines", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "192.0.2.9", "X-Other", "x", "x-forwarded-for", "10.0.0.2", "X-Forwarded-Proto", "http", "X-Forwarded-Proto", "https"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.2, 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"all are proxies", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "10.0.0.3, 10.0.0.2"),
			"10.0.0.3:0", "X-Forwarded-For: 10.0.0.3, 10.0.0.2, 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"unknown", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "192.0.2.9, unknown"),
			"10.0.0.1:1000", "X-Forwarded-For: 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"with a port, and empty items", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", ", 192.0.2.9:4711 ,"),
			"192.0.2.9:4711", "X-Forwarded-For: 192.0.2.9, 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"IPv6", trusting, "[fd00::1]:1000", "", false, fields("X-Forwarded-For", "2001:db8::9"),
			"[2001:db8::9]:0", "X-Forwarded-For: 2001:db8::9, fd00::1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"IPv4 in IPv6", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "::ffff:192.0.2.9"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"a WebSocket, a host that is none", trusting, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "192.0.2.9", "X-Forwarded-Proto", "wss", "X-Forwarded-Host", "a b"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.1|X-Forwarded-Proto: https|X-Forwarded-Host: api.example"},
		{"the field that these proxies do not write", trusting, "10.0.0.1:1000", "", false, fields("Forwarded", "for=6.6.6.6;proto=https"),
			"10.0.0.1:1000", "X-Forwarded-For: 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},

		{"PROXY header", trusting, "192.0.2.1:1", "192.0.2.9:1000", false, fields("X-Forwarded-For", "6.6.6.6"),
			"192.0.2.9:1000", "X-Forwarded-For: 192.0.2.9|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"PROXY header that claims a trusted source", trusting, "192.0.2.1:1", "10.0.0.1:1000", false, fields("X-Forwarded-For", "6.6.6.6"),
			"10.0.0.1:1000", "X-Forwarded-For: 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"the same from a trusted peer", trusting, "10.0.0.7:1", "10.0.0.1:1000", false, fields("X-Forwarded-For", "192.0.2.9"),
			"192.0.2.9:0", "X-Forwarded-For: 192.0.2.9, 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},
		{"PROXY header of a client, from a trusted peer", trusting, "10.0.0.7:1", "192.0.2.9:1000", false, fields("X-Forwarded-For", "6.6.6.6"),
			"192.0.2.9:1000", "X-Forwarded-For: 192.0.2.9|X-Forwarded-Proto: http|X-Forwarded-Host: api.example"},

		{"Forwarded", standard, "10.0.0.1:1000", "", false, fields("Forwarded", `for=6.6.6.6, for="192.0.2.9:99";proto=https;host=www.example`, "Forwarded", "for=10.0.0.2;proto=http", "X-Forwarded-For", "6.6.6.6"),
			"192.0.2.9:99", `Forwarded: for=192.0.2.9;proto=https;host="www.example", for=10.0.0.2, for=10.0.0.1`},
		{"Forwarded to upstreams", standard, "[2001:db8::9]:1000", "", true, nil,
			"[2001:db8::9]:1000", `Forwarded: for="[2001:db8::9]";proto=https;host="api.example"`},
		{"both to upstreams", both, "10.0.0.1:1000", "", false, fields("X-Forwarded-For", "192.0.2.9"),
			"192.0.2.9:0", `X-Forwarded-For: 192.0.2.9, 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Host: api.example|Forwarded: for=192.0.2.9;proto=http;host="api.example", for=10.0.0.1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := origin{peer: netip.MustParseAddrPort(test.peer), secure: test.secure, version: "1.1"}
			if test.claimed != "" {
				o.claimed = netip.MustParseAddrPort(test.claimed)
			}
			o.adopt(test.settings.withDefaults())
			for range 2 { // the second request on the connection is as the first
				if o.trusted {
					if err := o.resolve(test.fields); err != nil {
						t.Fatal(err)
					}
				}
				told := string(o.appendFields(nil, []byte("api.example")))
				told = strings.ReplaceAll(strings.TrimSuffix(strings.Replace(told, "Via: 1.1 fieldgate\r\n", "", 1), "\r\n"), "\r\n", "|")
				if o.source.String() != test.source || told != test.told {
					t.Errorf("source %s, want %s\ntold %s\nwant %s", o.source, test.source, told, test.told)
				}
			}
		})
	}
}

// FuzzForwarded: whatever a trusted proxy passes on, the source is an address that is vouched for, and upstreams are told in well-formed
// fields.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []struct{ value, proto string }{
		{`for=192.0.2.43, for="[2001:db8:cafe::17]:4711";proto=https;host="a.example:80"`, "https"},
		{`for="_gazonk";by=unknown;ext="a\",b"`, "http, https"},
		{"192.0.2.1, 10.0.0.2:80, [2001:db8::1]:443", "wss"},
		{", ,unknown,10.0.0.1", ",,"},
	} {
		f.Add(seed.value, seed.proto)
	}
	in := Settings{TrustedProxies: prefixes("10.0.0.0/8"), ForwardedOut: BothForwarded}
	f.Fuzz(func(t *testing.T, value, proto string) {
		for _, form := range []ForwardedFields{XForwarded, Forwarded} {
			in.ForwardedIn = form
			o := origin{peer: netip.MustParseAddrPort("10.0.0.1:1"), version: "1.1"}
			o.adopt(in.withDefaults())
			err := o.resolve(fields("Forwarded", value, "X-Forwarded-For", value, "X-Forwarded-Proto", proto, "X-Forwarded-Host", proto))
			if !o.source.IsValid() || o.source.Addr().Zone() != "" || len(o.chain) > maxHops+1 {
				t.Fatalf("%s: %v", o.source, o.chain)
			}
			if err != nil && err != errForwarded && err != errHops {
				t.Fatal(err)
			}
			if err != nil || strings.ContainsAny(value+proto, "\r\n\x00") { // a field has none
				continue
			}
			var request h1.Request
			told := o.appendFields([]byte("GET / HTTP/1.1\r\nHost: a\r\n"), []byte("a.example"))
			limits := h1.Limits{}.WithDefaults()
			if err := request.Parse(append(told, "\r\n"...), &limits); err != nil {
				t.Fatalf("%v: %q", err, told)
			}
			again := origin{peer: o.peer, version: "1.1"}
			again.adopt(o.settings)
			if err := again.resolve(request.Fields); err != nil || again.source.Addr() != o.source.Addr() || again.https != o.https {
				t.Fatalf("%v: %s is read from %q, which was written for %s", err, again.source, told, o.source)
			}
		}
	})
}

// forwardedOrigin is that of a connection of a trusted proxy, with the fields of a request that came by two proxies.
func forwardedOrigin(in ForwardedFields) (*origin, h1.Fields) {
	o := &origin{peer: netip.MustParseAddrPort("10.0.0.1:1"), version: "1.1"}
	o.adopt(Settings{TrustedProxies: prefixes("192.168.0.0/16", "10.0.0.0/8"), ForwardedIn: in, ForwardedOut: BothForwarded}.withDefaults())
	return o, fields("Accept", "*/*", "X-Forwarded-For", "192.0.2.9, 10.0.0.2", "X-Forwarded-Proto", "https", "Forwarded", `for=192.0.2.9;proto=https, for="[2001:db8::1]:99"`)
}

func BenchmarkForwardedOrigin(b *testing.B) {
	for name, in := range map[string]ForwardedFields{"X-Forwarded-For": XForwarded, "Forwarded": Forwarded} {
		b.Run(name, func(b *testing.B) {
			o, request := forwardedOrigin(in)
			var told []byte
			b.ReportAllocs()
			for b.Loop() {
				if err := o.resolve(request); err != nil {
					b.Fatal(err)
				}
				told = o.appendFields(told[:0], nil)
			}
		})
	}
}
