package fieldgate

import (
	"bytes"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

func TestToken(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		token, err := NewToken(PrefixDevice)
		if err != nil {
			t.Fatal(err)
		}
		if len(token) != TokenBytes || !strings.HasPrefix(token, PrefixDevice) || !WellFormedToken([]byte(token)) || seen[token] {
			t.Fatalf("bad token %q", token)
		}
		seen[token] = true
		for i := range token {
			altered := []byte(token)
			if altered[i]++; WellFormedToken(altered) {
				t.Fatalf("%q passes for a token, altered at %d", altered, i)
			}
		}
	}
}

func TestCredentialHashText(t *testing.T) {
	hash := HashToken([]byte("abc"))
	text, _ := hash.MarshalText()
	// FIPS 180-2 appendix B.1.
	if string(text) != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Fatalf("got %s", text)
	}
	var back CredentialHash
	if err := back.UnmarshalText(text); err != nil || back != hash {
		t.Fatalf("%v %v", back, err)
	}
	if back.UnmarshalText([]byte("00")) == nil {
		t.Fatal("a short hash is accepted")
	}
}

func TestValidIdentifier(t *testing.T) {
	for id, want := range map[string]bool{"d7": true, "70b3d5e7500012ab": true, "urn:dev:mac:00": true, "": false, ".": false, "..": false,
		"a/b": false, "a+": false, "#": false, "ä": false, "a b": false, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false} {
		if ValidIdentifier(id) != want {
			t.Errorf("%q: want %v", id, want)
		}
	}
}

// Another implementation of RFC 5802 section 3 derives the same keys.
func TestScramVerifier(t *testing.T) {
	token, err := NewToken(PrefixDevice)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewScramVerifier("d1", token)
	if err != nil {
		t.Fatal(err)
	}
	client, err := scram.SHA256.NewClient("d1", token, "")
	if err != nil {
		t.Fatal(err)
	}
	want, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(ScramSalt("d1")), Iters: ScramIterations})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(v.StoredKey(), want.StoredKey) || !bytes.Equal(v.ServerKey(), want.ServerKey) {
		t.Error("another implementation derives other keys")
	}
	for _, v := range []ScramVerifier{v, {}} {
		text, err := v.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var again ScramVerifier
		if err := again.UnmarshalText(text); err != nil || again != v {
			t.Errorf("%q is read as another: %v", text, err)
		}
	}
	if err := new(ScramVerifier).UnmarshalText([]byte("abc")); err == nil {
		t.Error("a short one is taken")
	}
}
