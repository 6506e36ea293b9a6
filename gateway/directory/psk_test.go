package directory

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/engine/seal"
)

func secrets(t *testing.T) *seal.Keyring {
	t.Helper()
	r := seal.Open(filepath.Join(t.TempDir(), "secrets.key"), true)
	if _, err := r.Need(); err != nil {
		t.Fatal(err)
	}
	return r
}

var pskKey = []byte("0123456789abcdef")

func withPSK(change fieldgate.DirectoryChange, r *seal.Keyring, identity string) fieldgate.DirectoryChange {
	change.PSK = &fieldgate.SealedPSK{Identity: identity}
	change.PSK.Sealed = r.Key().Seal(pskKey, change.PSK.Binding(change.Kind, change.ID))
	return change
}

func apply(t *testing.T, d *Directory, changes ...fieldgate.DirectoryChange) {
	t.Helper()
	if err := d.Apply(changes); err != nil {
		t.Fatal(err)
	}
}

// RFC 4279 §2: the identity names the key. It is found after a restart and in a log that was rewritten; the log does not have it in clear.
func TestPSK(t *testing.T) {
	folder, keys := t.TempDir(), secrets(t)
	d := open(t, folder)
	d.Secrets = keys
	one := withPSK(device(1, "d1", 0, 1), keys, "Zähler 0007")
	one.Certificates = []fieldgate.CredentialHash{hash(70)}
	apply(t, d, one, withPSK(device(2, "d2", 0), keys, "d2"), device(3, "d3", 0, 3))
	check := func(when string) {
		t.Helper()
		for identity, want := range map[string]string{"Zähler 0007": "d1", "d2": "d2", "d1": "", "": "", "Zähler 000": "", strings.Repeat("x", 200): ""} {
			key, who, ok := d.PSK([]byte(identity))
			if ok != (want != "") || ok && (d.Principal(who.Ref).ID != want || !bytes.Equal(key, pskKey) || !d.Holds(who.Ref, &who.Hash)) {
				t.Errorf("%s: %q: %q %+v %v", when, identity, key, who, ok)
			}
		}
		token, pinned := hash(1), hash(70)
		if ref := d.Find(fieldgate.PrincipalDevice, "d1"); d.Lookup(&token) != ref || d.Lookup(&pinned) != ref || len(d.Tokens("d1")) != 1 || d.certificates.Load() != 1 {
			t.Errorf("%s: the other credentials are lost", when)
		}
	}
	check("applied")
	d.Close()
	d = open(t, folder)
	d.Secrets = keys
	check("read back")
	if err := d.compact(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = open(t, folder)
	d.Secrets = keys
	check("rewritten")
	if content, err := os.ReadFile(filepath.Join(folder, logName)); err != nil || bytes.Contains(content, pskKey) || !bytes.Contains(content, []byte("Zähler")) {
		t.Error("the log has the key in clear", err)
	}
}

// A rotation, a removal and a revocation end what the key has proved; an identity may go to another device.
func TestPSKIsReplaced(t *testing.T) {
	d, keys := open(t, t.TempDir()), secrets(t)
	d.Secrets = keys
	proven := func(identity string) (who Proven) {
		t.Helper()
		_, who, _ = d.PSK([]byte(identity))
		return who
	}
	apply(t, d, withPSK(device(1, "d1", 0), keys, "meter"))
	first := proven("meter")
	apply(t, d, withPSK(device(2, "d1", 0), keys, "meter")) // the same key, set again
	second := proven("meter")
	if first.Ref == 0 || first.Ref != second.Ref || d.Holds(first.Ref, &first.Hash) || !d.Holds(second.Ref, &second.Hash) {
		t.Errorf("%+v, %+v", first, second)
	}
	apply(t, d, device(3, "d1", 0), withPSK(device(4, "d2", 0), keys, "meter"))
	third := proven("meter")
	if d.Principal(third.Ref).ID != "d2" || d.Holds(second.Ref, &second.Hash) {
		t.Error("the identity did not move")
	}
	apply(t, d, device(5, "d2", fieldgate.StateRevoked))
	if proven("meter").Ref != 0 || d.Holds(third.Ref, &third.Hash) {
		t.Error("a revoked device has its key")
	}
}

// A key that was sealed for another device or identity, or by another secrets key, opens nothing; nor does a node without one.
func TestPSKOfOthers(t *testing.T) {
	d, keys := open(t, t.TempDir()), secrets(t)
	apply(t, d, withPSK(device(1, "d1", 0), keys, "d1"))
	if _, _, ok := d.PSK([]byte("d1")); ok {
		t.Error("it is opened without a key")
	}
	d.Secrets = keys
	_, who, ok := d.PSK([]byte("d1"))
	if !ok {
		t.Fatal("it is not opened")
	}
	moved := device(2, "d2", 0)
	moved.PSK = withPSK(device(0, "d1", 0), keys, "d1").PSK
	apply(t, d, device(2, "d1", 0), moved)
	if _, _, ok := d.PSK([]byte("d1")); ok {
		t.Error("a key of another device is taken")
	}
	apply(t, d, withPSK(device(4, "d3", 0), secrets(t), "d3"))
	if _, _, ok := d.PSK([]byte("d3")); ok {
		t.Error("a key that was sealed by another secrets key is taken")
	}
	if d.Holds(who.Ref, &who.Hash) {
		t.Error("the removed key stands")
	}
}

// A log of a version before is read as it was written.
func TestChangesWithoutHandshakeCredentials(t *testing.T) {
	change := device(9, "d1", 0, 1, 2)
	encoded := appendChange(nil, &change)
	if encoded[2] != 2 {
		t.Fatalf("%x", encoded)
	}
	again, err := readChange(encoded)
	if err != nil || again.PSK != nil || again.Certificates != nil || len(again.Credentials) != 2 {
		t.Errorf("%+v %v", again, err)
	}
}
