package oscore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newContext(t testing.TB, config Config) *Context {
	t.Helper()
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// agreements are those of RFC 8613 appendix C.1 to C.3, as the client has them.
var agreements = map[string]func(t testing.TB) Config{
	"C.1": func(t testing.TB) Config {
		return Config{MasterSecret: unhex(t, "0102030405060708090a0b0c0d0e0f10"), MasterSalt: unhex(t, "9e7ca92223786340"), SenderID: []byte{}, RecipientID: []byte{1}}
	},
	"C.2": func(t testing.TB) Config {
		return Config{MasterSecret: unhex(t, "0102030405060708090a0b0c0d0e0f10"), SenderID: []byte{0}, RecipientID: []byte{1}}
	},
	"C.3": func(t testing.TB) Config {
		return Config{MasterSecret: unhex(t, "0102030405060708090a0b0c0d0e0f10"), MasterSalt: unhex(t, "9e7ca92223786340"),
			IDContext: unhex(t, "37cbf3210017a2d3"), SenderID: []byte{}, RecipientID: []byte{1}}
	},
}

// other is the same agreement as the other side has it.
func other(config Config) Config {
	config.SenderID, config.RecipientID = config.RecipientID, config.SenderID
	return config
}

// RFC 8613 appendix C.1 to C.3: keys, common IV and the nonces of partial IV 0, on both sides.
func TestDerivation(t *testing.T) {
	for _, v := range []struct{ name, senderKey, recipientKey, commonIV, senderNonce, recipientNonce string }{
		{"C.1", "f0910ed7295e6ad4b54fc793154302ff", "ffb14e093c94c9cac9471648b4f98710", "4622d4dd6d944168eefb54987c",
			"4622d4dd6d944168eefb54987c", "4722d4dd6d944169eefb54987c"},
		{"C.2", "321b26943253c7ffb6003b0b64d74041", "e57b5635815177cd679ab4bcec9d7dda", "be35ae297d2dace910c52e99f9",
			"bf35ae297d2dace910c52e99f9", "bf35ae297d2dace810c52e99f9"},
		{"C.3", "af2a1300a5e95788b356336eeecd2b92", "e39a0c7c77b43f03b4b39ab9a268699f", "2ca58fb85ff1b81c0b7181b85e",
			"2ca58fb85ff1b81c0b7181b85e", "2da58fb85ff1b81d0b7181b85e"},
	} {
		t.Run(v.name, func(t *testing.T) {
			for side, config := range map[string]Config{"client": agreements[v.name](t), "server": other(agreements[v.name](t))} {
				c := newContext(t, config)
				wantKey, wantNonce := []string{v.senderKey, v.recipientKey}, []string{v.senderNonce, v.recipientNonce}
				if side == "server" {
					wantKey[0], wantKey[1] = wantKey[1], wantKey[0]
					wantNonce[0], wantNonce[1] = wantNonce[1], wantNonce[0]
				}
				for i, id := range [][]byte{config.SenderID, config.RecipientID} {
					key, err := config.derive(id, "Key", keyLength)
					if err != nil || hex.EncodeToString(key) != wantKey[i] {
						t.Errorf("%s: key %d is %x (%v), want %s", side, i, key, err, wantKey[i])
					}
					if nonce := c.nonce(id, []byte{0}); hex.EncodeToString(nonce[:]) != wantNonce[i] {
						t.Errorf("%s: nonce %d is %x, want %s", side, i, nonce, wantNonce[i])
					}
				}
				if hex.EncodeToString(c.commonIV[:]) != v.commonIV {
					t.Errorf("%s: common IV %x, want %s", side, c.commonIV, v.commonIV)
				}
			}
		})
	}
}

// Messages of the vectors begin with a header of four bytes and a token of four.
const headerAndToken = 8

// RFC 8613 appendix C.4 to C.6.
func TestRequests(t *testing.T) {
	for _, v := range []struct{ name, agreement, unprotected, protected, additionalData, nonce string }{
		{"C.4", "C.1", "44015d1f00003974396c6f63616c686f737483747631",
			"44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e",
			"8368456e63727970743040488501810a40411440", "4622d4dd6d944168eefb549868"},
		{"C.5", "C.2", "440171c30000b932396c6f63616c686f737483747631",
			"440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0",
			"8368456e63727970743040498501810a4100411440", "bf35ae297d2dace910c52e99ed"},
		{"C.6", "C.3", "44012f8eef9bbf7a396c6f63616c686f737483747631",
			"44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3",
			"8368456e63727970743040488501810a40411440", "2ca58fb85ff1b81c0b7181b84a"},
	} {
		t.Run(v.name, func(t *testing.T) {
			config := agreements[v.agreement](t)
			config.Sequence = 20
			client, server := newContext(t, config), newContext(t, other(config))
			plain, want := unhex(t, v.unprotected), unhex(t, v.protected)
			code, outer, exchange, err := client.ProtectRequest(nil, plain[1], plain[headerAndToken:])
			if err != nil || code != want[1] || !bytes.Equal(outer, want[headerAndToken:]) {
				t.Errorf("protected: code %d, %x, %v; want %x", code, outer, err, want)
			}
			if got := hex.EncodeToString(exchange.additionalData()); got != v.additionalData {
				t.Errorf("additional data %s, want %s", got, v.additionalData)
			}
			if got := hex.EncodeToString(exchange.nonce[:]); got != v.nonce {
				t.Errorf("nonce %s, want %s", got, v.nonce)
			}
			header, protected, err := Identify(want[headerAndToken:])
			if err != nil || !protected || !bytes.Equal(header.KID, config.SenderID) || !bytes.Equal(header.KIDContext, config.IDContext) {
				t.Errorf("identified as %+v, %v, %v", header, protected, err)
			}
			code, inner, _, err := server.OpenRequest(nil, want[headerAndToken:])
			if err != nil || code != plain[1] || !bytes.Equal(inner, plain[headerAndToken:]) {
				t.Errorf("opened: code %d, %x, %v; want %x", code, inner, err, plain)
			}
			if _, _, _, err := server.OpenRequest(nil, want[headerAndToken:]); err != ErrReplay {
				t.Errorf("RFC 8613 §7.4: opened again: %v", err)
			}
		})
	}
}

// RFC 8613 appendix C.7 (with the request's nonce) and C.8 (with one of its own), to the request of C.4.
func TestResponses(t *testing.T) {
	config := agreements["C.1"](t)
	config.Sequence = 20
	client := newContext(t, config)
	config.Sequence = 0
	server := newContext(t, other(config))
	request := unhex(t, "44015d1f00003974396c6f63616c686f737483747631")
	_, outer, asked, err := client.ProtectRequest(nil, request[1], request[headerAndToken:])
	if err != nil {
		t.Fatal(err)
	}
	_, _, exchange, err := server.OpenRequest(nil, outer)
	if err != nil {
		t.Fatal(err)
	}
	plain := unhex(t, "64455d1f00003974ff48656c6c6f20576f726c6421")
	for _, v := range []struct {
		name, protected string
		own             bool
	}{
		{"C.7", "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106", false},
		{"C.8", "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e", true},
	} {
		want := unhex(t, v.protected)
		code, outer, err := server.ProtectResponse(nil, &exchange, plain[1], plain[headerAndToken:], v.own)
		if err != nil || code != want[1] || !bytes.Equal(outer, want[headerAndToken:]) {
			t.Errorf("%s: protected: code %d, %x, %v; want %x", v.name, code, outer, err, want)
		}
		code, inner, err := client.OpenResponse(nil, want[headerAndToken:], &asked)
		if err != nil || code != plain[1] || !bytes.Equal(inner, plain[headerAndToken:]) {
			t.Errorf("%s: opened: code %d, %x, %v; want %x", v.name, code, inner, err, plain)
		}
	}
}

// pair is a client and a server that have agreed.
func pair(t testing.TB) (client, server *Context) {
	return newContext(t, agreements["C.3"](t)), newContext(t, other(agreements["C.3"](t)))
}

func encoded(payload string, options ...option) []byte {
	return appendMessage(nil, options, []byte(payload))
}

// RFC 8613 §4.1: what stands outside, what within, and what the other side gets.
func TestOptions(t *testing.T) {
	client, server := pair(t)
	body := encoded("p", option{1, []byte("e")}, option{3, []byte("host")}, option{7, []byte{1}}, option{11, []byte("a")}, option{11, []byte("b")},
		option{15, []byte("q")}, option{16, []byte{9}}, option{27, []byte{8}}, option{39, []byte("coap")}, option{258, []byte{2}}, option{65002, []byte("token")})
	code, outer, _, err := client.ProtectRequest([]byte("behind"), 3, body)
	if err != nil || code != codePOST || string(outer[:6]) != "behind" {
		t.Fatalf("code %d, %v", code, err)
	}
	outer = outer[6:]
	options, _, err := parse(outer)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for _, o := range options {
		numbers = append(numbers, o.number)
	}
	want := []int{3, 7, 9, 16, 39, 258}
	if len(numbers) != len(want) {
		t.Fatalf("outside stand %v, want %v", numbers, want)
	}
	for i := range want {
		if numbers[i] != want[i] {
			t.Fatalf("outside stand %v, want %v", numbers, want)
		}
	}
	for _, secret := range []string{"token", "a", "q"} {
		if len(secret) > 1 && bytes.Contains(outer, []byte(secret)) {
			t.Errorf("%q can be read", secret)
		}
	}
	// A proxy lowers Hop-Limit and adds an option that only the message within may have.
	for i := range options {
		if options[i].number == 16 {
			options[i].value = []byte{8}
		}
	}
	_, ciphertext, _ := parse(outer)
	options = insert(options, option{11, []byte("evil")})
	code, inner, _, err := server.OpenRequest(nil, appendMessage(nil, options, ciphertext))
	wantInner := bytes.Replace(body, []byte{0x11, 9}, []byte{0x11, 8}, 1)
	if err != nil || code != 3 || !bytes.Equal(inner, wantInner) {
		t.Errorf("code %d, %v\n%x, want\n%x", code, err, inner, wantInner)
	}
	if _, _, _, err := client.ProtectRequest(nil, 1, encoded("", option{35, []byte("coap://h")})); err != ErrProxyURI {
		t.Errorf("RFC 8613 §4.1.3.3: Proxy-Uri: %v", err)
	}
	if _, _, _, err := client.ProtectRequest(nil, 1, encoded("", option{9, nil})); err != ErrMalformed {
		t.Errorf("protected twice: %v", err)
	}
}

// RFC 8613 §4.1.3.5, §7.4.1: notifications are in the order of their partial IVs.
func TestObserve(t *testing.T) {
	client, server := pair(t)
	code, outer, asked, err := client.ProtectRequest(nil, 1, encoded("", option{6, nil}, option{11, []byte("t")}))
	if err != nil || code != codeFETCH {
		t.Fatalf("RFC 8613 §4.2: outer code %d, %v", code, err)
	}
	_, inner, exchange, err := server.OpenRequest(nil, outer)
	if options, _, _ := parse(inner); err != nil || len(options) != 2 || options[0].number != 6 {
		t.Fatalf("%x, %v", inner, err)
	}
	var sent [][]byte
	for i := range 4 {
		code, outer, err := server.ProtectResponse(nil, &exchange, codeContent, encoded("x", option{6, []byte{byte(i)}}), i > 0)
		if err != nil || code != codeContent {
			t.Fatalf("RFC 8613 §4.2: outer code %d, %v", code, err)
		}
		sent = append(sent, outer)
	}
	for _, step := range []struct {
		notification int
		want         error
		observe      string
	}{{0, nil, ""}, {1, nil, ""}, {3, nil, "\x02"}, {2, ErrReplay, ""}, {3, ErrReplay, ""}} {
		_, inner, err := client.OpenResponse(nil, sent[step.notification], &asked)
		if err != step.want {
			t.Fatalf("notification %d: %v, want %v", step.notification, err, step.want)
		}
		if options, _, _ := parse(inner); err == nil && (options[0].number != 6 || string(options[0].value) != step.observe) {
			t.Errorf("notification %d has Observe %x, want %x", step.notification, options[0].value, step.observe)
		}
	}
	// A proxy that takes Observe away makes a plain request of it.
	_, outer, _, _ = client.ProtectRequest(nil, 1, encoded("", option{6, nil}, option{11, []byte("t")}))
	options, ciphertext, _ := parse(outer)
	_, inner, _, err = server.OpenRequest(nil, appendMessage(nil, options[1:], ciphertext))
	if options, _, _ := parse(inner); err != nil || len(options) != 1 {
		t.Errorf("RFC 8613 §4.1.3.5.1: %x, %v", inner, err)
	}
}

func TestReplay(t *testing.T) {
	client, server := pair(t)
	var requests [][]byte
	for range 100 {
		_, outer, _, err := client.ProtectRequest(nil, 1, encoded(""))
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, outer)
	}
	for _, step := range []struct {
		number int
		want   error
	}{{5, nil}, {5, ErrReplay}, {3, nil}, {4, nil}, {3, ErrReplay}, {60, nil}, {29, nil}, {28, ErrReplay}, {29, ErrReplay}, {61, nil}, {60, ErrReplay},
		{99, nil}, {67, ErrReplay}, {68, nil}, {98, nil}, {99, ErrReplay}} {
		if _, _, _, err := server.OpenRequest(nil, requests[step.number]); err != step.want {
			t.Errorf("RFC 8613 §7.4: request %d: %v, want %v", step.number, err, step.want)
		}
	}
	// A forged number moves nothing.
	forged := bytes.Replace(requests[70], []byte{0x19, 70}, []byte{0x19, 200}, 1)
	if _, _, _, err := server.OpenRequest(nil, forged); err != ErrOpen {
		t.Errorf("a forged number: %v", err)
	}
	if _, _, _, err := server.OpenRequest(nil, requests[70]); err != nil {
		t.Errorf("after a forged number: %v", err)
	}
}

// RFC 8613 appendix B.1.2: after a restart a request is unproven until its sender has returned an Echo value.
func TestRestart(t *testing.T) {
	client, _ := pair(t)
	config := other(agreements["C.3"](t))
	config.Restarted, config.Sequence = true, 500
	server := newContext(t, config)
	_, first, asked, _ := client.ProtectRequest(nil, 1, encoded(""))
	for range 2 {
		_, _, exchange, err := server.OpenRequest(nil, first)
		if err != nil || !exchange.Unproven {
			t.Fatalf("%v, unproven %v", err, exchange.Unproven)
		}
		_, outer, err := server.ProtectResponse(nil, &exchange, 4<<5|1, encoded("", option{252, []byte("echo")}), false)
		if err != nil {
			t.Fatal(err)
		}
		options, _, _ := parse(outer)
		if value, _ := find(options, Number); len(value) < 2 {
			t.Error("the response to what may be a repetition has the request's nonce")
		}
		if code, _, err := client.OpenResponse(nil, outer, &asked); err != nil || code != 4<<5|1 {
			t.Errorf("code %d, %v", code, err)
		}
	}
	_, second, _, _ := client.ProtectRequest(nil, 1, encoded("", option{252, []byte("echo")}))
	_, _, exchange, err := server.OpenRequest(nil, second)
	if err != nil || !exchange.Unproven {
		t.Fatalf("%v, unproven %v", err, exchange.Unproven)
	}
	server.Synchronize(&exchange)
	for name, body := range map[string][]byte{"the first": first, "the second": second} {
		if _, _, _, err := server.OpenRequest(nil, body); err != ErrReplay {
			t.Errorf("%s again: %v", name, err)
		}
	}
	_, third, _, _ := client.ProtectRequest(nil, 1, encoded(""))
	if _, _, exchange, err := server.OpenRequest(nil, third); err != nil || exchange.Unproven {
		t.Errorf("the third: %v, unproven %v", err, exchange.Unproven)
	}
}

// Whatever is changed, nothing is opened.
func TestForgery(t *testing.T) {
	client, server := pair(t)
	_, outer, asked, _ := client.ProtectRequest(nil, 1, encoded("payload", option{11, []byte("path")}))
	_, _, exchange, err := server.OpenRequest(nil, outer)
	if err != nil {
		t.Fatal(err)
	}
	_, response, _ := server.ProtectResponse(nil, &exchange, codeContent, encoded("answer"), false)
	fresh := newContext(t, other(agreements["C.3"](t)))
	for i := range outer {
		for bit := range 8 {
			changed := bytes.Clone(outer)
			changed[i] ^= 1 << bit
			if _, inner, _, err := fresh.OpenRequest(nil, changed); err == nil {
				t.Fatalf("a request with bit %d of byte %d changed was opened: %x", bit, i, inner)
			}
		}
	}
	for i := range response {
		changed := bytes.Clone(response)
		changed[i] ^= 1
		if _, inner, err := client.OpenResponse(nil, changed, &asked); err == nil {
			t.Fatalf("a response with byte %d changed was opened: %x", i, inner)
		}
	}
	_, another, otherAsked, _ := client.ProtectRequest(nil, 1, encoded(""))
	if _, _, err := client.OpenResponse(nil, response, &otherAsked); err != ErrOpen {
		t.Errorf("RFC 8613 §5.4: a response to another request: %v", err)
	}
	if _, _, err := client.OpenResponse(nil, another, &asked); err == nil {
		t.Error("a request was taken for a response")
	}
	stranger := newContext(t, other(agreements["C.2"](t)))
	if _, _, _, err := stranger.OpenRequest(nil, outer); err != ErrContext {
		t.Errorf("another context: %v", err)
	}
}

func TestHeaders(t *testing.T) {
	for _, v := range []struct {
		clause, value string
		want          error
	}{
		{"RFC 8613 §6.1: nothing", "", nil},
		{"RFC 8613 §6.1: partial IV and kid", "091401", nil},
		{"RFC 8613 §6.1: empty kid", "0914", nil},
		{"RFC 8613 §6.1: all zero is written as nothing", "00", ErrMalformed},
		{"RFC 8613 §6.1: reserved flags", "2914", ErrMalformed},
		{"RFC 8613 §6.1: n of 6 is reserved", "0e010203040506", ErrMalformed},
		{"RFC 8613 §6.1: the partial IV ends early", "0a14", ErrMalformed},
		{"RFC 8613 §6.1: leading zeros", "0a0014", ErrMalformed},
		{"RFC 8613 §6.1: kid context without length", "1914", ErrMalformed},
		{"RFC 8613 §6.1: kid context ends early", "19140537cb", ErrMalformed},
		{"RFC 8613 §6.1: a kid without flag", "011401", ErrMalformed},
	} {
		h, err := ParseHeader(unhex(t, v.value))
		if err != v.want {
			t.Errorf("%s: %v, want %v", v.clause, err, v.want)
		}
		if err == nil && hex.EncodeToString(h.append(nil)) != v.value {
			t.Errorf("%s: written again as %x", v.clause, h.append(nil))
		}
	}
	for _, body := range [][]byte{encoded("p"), encoded("", option{11, []byte("a")}), nil} {
		if _, protected, err := Identify(body); protected || err != nil {
			t.Errorf("%x: protected %v, %v", body, protected, err)
		}
	}
	long := encoded("longer than a tag", option{9, nil}, option{9, nil})
	if _, _, err := Identify(long); err != ErrMalformed {
		t.Errorf("RFC 8613 §2: two OSCORE options: %v", err)
	}
	if _, _, err := Identify(encoded("12345678", option{9, nil})); err != ErrMalformed {
		t.Errorf("nothing but a tag: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := agreements["C.1"](t)
	for name, change := range map[string]func(*Config){
		"the same identifiers":     func(c *Config) { c.RecipientID = c.SenderID },
		"an identifier of 8 bytes": func(c *Config) { c.SenderID = make([]byte, 8) },
		"a context of 256 bytes":   func(c *Config) { c.IDContext = make([]byte, 256) },
		"a short master secret":    func(c *Config) { c.MasterSecret = c.MasterSecret[:15] },
	} {
		config := good
		change(&config)
		if _, err := New(config); !errors.Is(err, ErrID) && !errors.Is(err, ErrSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	config := good
	config.Sequence = MaxSequence
	c := newContext(t, config)
	if _, _, _, err := c.ProtectRequest(nil, 1, nil); err != nil || c.Sequence() != MaxSequence+1 {
		t.Errorf("the last number: %v", err)
	}
	if _, _, _, err := c.ProtectRequest(nil, 1, nil); err != ErrExhausted {
		t.Errorf("RFC 8613 §7.2.1: none is left: %v", err)
	}
}

// Whatever goes in comes out, with random options and in random order.
func TestRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	client, server := pair(t)
	for range 2000 {
		var options []option
		for range random.IntN(8) {
			number := []int{1, 3, 4, 5, 7, 8, 11, 12, 15, 16, 17, 23, 27, 28, 60, 252, 258, 292, 2053, 65000}[random.IntN(20)]
			options = insert(options, option{number, bytes.Repeat([]byte{byte(number)}, random.IntN(300))})
		}
		body := encoded(string(make([]byte, random.IntN(100))), options...)
		_, outer, asked, err := client.ProtectRequest(nil, 2, body)
		if err != nil {
			t.Fatal(err)
		}
		code, inner, exchange, err := server.OpenRequest(nil, outer)
		if err != nil || code != 2 || !bytes.Equal(inner, body) {
			t.Fatalf("%x became %x, %v", body, inner, err)
		}
		_, outer, err = server.ProtectResponse(nil, &exchange, 2<<5|4, body, random.IntN(2) == 0)
		if err != nil {
			t.Fatal(err)
		}
		if code, inner, err = client.OpenResponse(nil, outer, &asked); err != nil || code != 2<<5|4 || !bytes.Equal(inner, body) {
			t.Fatalf("%x became %x, %v", body, inner, err)
		}
	}
}

// FuzzOpen holds that nothing but what the other side has protected is opened, and that hostile messages cost no more than an error.
func FuzzOpen(f *testing.F) {
	client, _ := pair(f)
	_, request, asked, err := client.ProtectRequest(nil, 1, encoded("p", option{6, nil}, option{11, []byte("a")}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	for _, seed := range []string{"", "ff", "90ff0102030405060708090a", "93091401ff0102030405060708090a", "9b19140837cbf3210017a2d3ff0102030405060708090a", "9d00ff", "e0ffff"} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, server := pair(t)
		header, protected, err := Identify(body)
		if err == nil && protected {
			if again, err := ParseHeader(header.append(nil)); err != nil || !bytes.Equal(again.KID, header.KID) {
				t.Fatalf("%x: the header %+v is read back as %+v, %v", body, header, again, err)
			}
		}
		if _, inner, _, err := server.OpenRequest(nil, body); err == nil {
			_, want, _ := parse(request)
			if _, got, _ := parse(body); !bytes.Equal(got, want) {
				t.Fatalf("%x was opened as %x", body, inner)
			}
		}
		exchange := asked
		if _, inner, err := client.OpenResponse(nil, body, &exchange); err == nil {
			t.Fatalf("%x was opened as the response %x", body, inner)
		}
	})
}

func BenchmarkRequestAndResponse(b *testing.B) {
	client, server := pair(b)
	body := encoded("21.5", option{11, []byte("readings")}, option{12, []byte{60}})
	answer := encoded("")
	var outer, inner []byte
	b.ReportAllocs()
	for b.Loop() {
		_, sent, asked, err := client.ProtectRequest(outer[:0], 2, body)
		if err != nil {
			b.Fatal(err)
		}
		_, opened, exchange, err := server.OpenRequest(inner[:0], sent)
		if err != nil {
			b.Fatal(err)
		}
		_, sent, err = server.ProtectResponse(sent[:0], &exchange, codeChanged, answer, false)
		if err != nil {
			b.Fatal(err)
		}
		if _, opened, err = client.OpenResponse(opened[:0], sent, &asked); err != nil {
			b.Fatal(err)
		}
		outer, inner = sent, opened
	}
}
