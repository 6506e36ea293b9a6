package ccm

import (
	"bytes"
	"crypto/aes"
	"crypto/des"
	_ "embed"
	"encoding/hex"
	"strings"
	"testing"
)

// The packet vectors of RFC 3610 §8: name, key, nonce, additional data, plaintext, ciphertext with tag.
//
//go:embed testdata/rfc3610.tsv
var rfc3610 string

func decode(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newCCM(t testing.TB, key []byte, nonceSize, tagSize int) *CCM {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(block, nonceSize, tagSize)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sequence is n bytes that count up from first.
func sequence(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

type vector struct {
	name                              string
	key, nonce, data, plaintext, want []byte
}

func vectors(t testing.TB) []vector {
	var all []vector
	for line := range strings.Lines(rfc3610) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		all = append(all, vector{"RFC 3610 " + f[0], decode(t, f[1]), decode(t, f[2]), decode(t, f[3]), decode(t, f[4]), decode(t, f[5])})
	}
	if len(all) != 24 {
		t.Fatalf("RFC 3610 §8 has 24 packet vectors, the file %d", len(all))
	}
	key := sequence(0x40, 16)
	return append(all,
		vector{"SP 800-38C C.1", key, sequence(0x10, 7), sequence(0, 8), sequence(0x20, 4), decode(t, "7162015b4dac255d")},
		vector{"SP 800-38C C.2", key, sequence(0x10, 8), sequence(0, 16), sequence(0x20, 16),
			decode(t, "d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd")},
		vector{"SP 800-38C C.3", key, sequence(0x10, 12), sequence(0, 20), sequence(0x20, 24),
			decode(t, "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951")},
		vector{"SP 800-38C C.4, additional data of 64 KiB", key, sequence(0x10, 13), sequence(0, 1<<16), sequence(0x20, 32),
			decode(t, "69915dad1e84c6376a68c2967e4dab615ae0fd1faec44cc484828529463ccf72b4ac6bec93e8598e7f0dadbcea5b")},
		vector{"CAVP VNT128, nothing but a tag", decode(t, "4ae701103c63deca5b5a3939d7d05992"), decode(t, "5a8aa485c316e9"), nil, nil,
			decode(t, "02209f55")})
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			c := newCCM(t, v.key, len(v.nonce), len(v.want)-len(v.plaintext))
			sealed := c.Seal([]byte("before"), v.nonce, v.plaintext, v.data)
			if string(sealed[:6]) != "before" || !bytes.Equal(sealed[6:], v.want) {
				t.Fatalf("Seal: %x, want %x behind what was there", sealed, v.want)
			}
			opened, err := c.Open(nil, v.nonce, v.want, v.data)
			if err != nil || !bytes.Equal(opened, v.plaintext) {
				t.Fatalf("Open: %x, %v; want %x", opened, err, v.plaintext)
			}
		})
	}
}

// Whatever is changed, nothing is opened and no plaintext is left.
func TestForgery(t *testing.T) {
	for _, v := range vectors(t) {
		tag := len(v.want) - len(v.plaintext)
		c := newCCM(t, v.key, len(v.nonce), tag)
		try := func(what string, nonce, sealed, data []byte) {
			t.Helper()
			dst := make([]byte, 0, len(sealed))
			if opened, err := c.Open(dst, nonce, sealed, data); err != ErrOpen || opened != nil {
				t.Errorf("%s, %s: opened %x, %v", v.name, what, opened, err)
			}
			if p := dst[:len(v.plaintext)]; len(p) > 0 && bytes.Equal(p, v.plaintext) {
				t.Errorf("%s, %s: the plaintext stands in dst", v.name, what)
			}
		}
		changed := func(b []byte, i int) []byte {
			b = bytes.Clone(b)
			b[i] ^= 1
			return b
		}
		for i := range v.want {
			try("changed ciphertext or tag", v.nonce, changed(v.want, i), v.data)
		}
		for i := range v.nonce {
			try("changed nonce", changed(v.nonce, i), v.want, v.data)
		}
		for i := range min(len(v.data), 64) {
			try("changed additional data", v.nonce, v.want, changed(v.data, i))
		}
		try("longer additional data", v.nonce, v.want, append(bytes.Clone(v.data), 0))
		if opened, err := c.Open(nil, v.nonce, v.want[:tag-1], v.data); err != ErrOpen {
			t.Errorf("%s: shorter than a tag: %x, %v", v.name, opened, err)
		}
	}
}

// In place, at all lengths around a block, with each length of nonce and tag.
func TestInPlace(t *testing.T) {
	for nonce := 7; nonce <= 13; nonce++ {
		for tag := 4; tag <= 16; tag += 2 {
			c := newCCM(t, sequence(1, 32), nonce, tag)
			for n := range 50 {
				message, data := sequence(7, n), sequence(9, n)
				want := c.Seal(nil, sequence(3, nonce), message, data)
				buffer := make([]byte, n, n+tag)
				copy(buffer, message)
				sealed := c.Seal(buffer[:0], sequence(3, nonce), buffer, data)
				if !bytes.Equal(sealed, want) || n > 0 && &sealed[0] != &buffer[0] {
					t.Fatalf("nonce %d, tag %d, %d bytes: sealed %x in place, %x apart", nonce, tag, n, sealed, want)
				}
				opened, err := c.Open(sealed[:0], sequence(3, nonce), sealed, data)
				if err != nil || !bytes.Equal(opened, message) {
					t.Fatalf("nonce %d, tag %d, %d bytes: %x, %v", nonce, tag, n, opened, err)
				}
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	block, err := aes.NewCipher(sequence(0, 16))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		nonce, tag int
		want       error
	}{{6, 8, ErrNonceSize}, {14, 8, ErrNonceSize}, {13, 2, ErrTagSize}, {13, 7, ErrTagSize}, {13, 18, ErrTagSize}} {
		if _, err := New(block, c.nonce, c.tag); err != c.want {
			t.Errorf("nonce %d, tag %d: %v, want %v", c.nonce, c.tag, err, c.want)
		}
	}
	small, err := des.NewCipher(sequence(0, 8))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(small, 13, 8); err != ErrBlockSize {
		t.Errorf("a cipher of 8-byte blocks: %v", err)
	}
}

// RFC 3610 §2: the length of the message has 15 - N bytes.
func TestTooLongForTheNonce(t *testing.T) {
	c := newCCM(t, sequence(0, 16), 13, 8)
	nonce := sequence(0, 13)
	long := make([]byte, 1<<16)
	c.Seal(nil, nonce, long[1:], nil)
	if _, err := c.Open(nil, nonce, make([]byte, 1<<16+8), nil); err != ErrOpen {
		t.Errorf("opening 65,536 bytes: %v", err)
	}
	for name, seal := range map[string]func(){
		"65,536 bytes":        func() { c.Seal(nil, nonce, long, nil) },
		"a nonce of 12 bytes": func() { c.Seal(nil, nonce[1:], nil, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s were sealed", name)
				}
			}()
			seal()
		}()
	}
}

func TestNothingIsAllocated(t *testing.T) {
	c := newCCM(t, sequence(0, 16), 13, 8)
	nonce, data := sequence(0, 13), sequence(0, 13)
	buffer := make([]byte, 100, 200)
	allocated := testing.AllocsPerRun(100, func() {
		sealed := c.Seal(buffer[:0], nonce, buffer, data)
		if _, err := c.Open(sealed[:0], nonce, sealed, data); err != nil {
			t.Fatal(err)
		}
	})
	if allocated != 0 {
		t.Errorf("%v allocations", allocated)
	}
}

// A DTLS record with a CoAP message of a typical size, sealed and opened.
func BenchmarkSealOpen(b *testing.B) {
	for _, n := range []int{32, 100, 1024} {
		b.Run(map[int]string{32: "32B", 100: "100B", 1024: "1KiB"}[n], func(b *testing.B) {
			c := newCCM(b, sequence(0, 16), 12, 8)
			nonce, data := sequence(0, 12), sequence(0, 13)
			buffer := make([]byte, n, n+8)
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				sealed := c.Seal(buffer[:0], nonce, buffer, data)
				if _, err := c.Open(sealed[:0], nonce, sealed, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	for _, v := range vectors(f) {
		if len(v.nonce) == 13 && len(v.data) < 64 {
			f.Add(v.nonce, v.want, v.data)
		}
	}
	f.Fuzz(func(t *testing.T, nonce, sealed, data []byte) {
		c := newCCM(t, sequence(0xc0, 16), 13, 8)
		if len(nonce) != 13 || len(sealed) > 1<<15 {
			return
		}
		opened, err := c.Open(nil, nonce, sealed, data)
		if err == nil && !bytes.Equal(c.Seal(nil, nonce, opened, data), sealed) {
			t.Fatalf("%x was opened and is not what is sealed", sealed)
		}
	})
}
