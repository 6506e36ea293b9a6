package fleet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/controltest"
	"fieldgate/control/directory"
	"fieldgate/control/refusal"
	"fieldgate/engine/seal"
)

// newest is what the gateways hear of a device.
func newest(t *testing.T, n node, id string) (found fieldgate.DirectoryChange) {
	t.Helper()
	for _, change := range follow(t, n.bus, 0) {
		if change.ID == id {
			found = change
		}
	}
	return found
}

// A pre-shared key is shown once, reaches the gateways sealed for its device and identity, and is nowhere in clear.
func TestPSKOfADevice(t *testing.T) {
	ctx, data := controltest.Context(t), t.TempDir()
	n := open(t, data)
	for _, id := range []string{"d1", "d2"} {
		if _, _, err := n.Add(ctx, NewDevice{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	made, err := n.SetPSK(ctx, "d1", NewPSK{}, directory.Basis{})
	if err != nil || len(made.Key) != madePSK || made.Device.PSK.Identity != "d1" {
		t.Fatalf("%+v %v", made, err)
	}
	key := []byte("a key of its maker")
	given, err := n.SetPSK(ctx, "d2", NewPSK{Identity: "Zähler 0007", Key: key}, directory.Basis{})
	if err != nil || !bytes.Equal(given.Key, key) {
		t.Fatalf("%+v %v", given, err)
	}
	for id, want := range map[string]IssuedPSK{"d1": made, "d2": given} {
		change := newest(t, n, id)
		opened, err := n.secrets.Key().Open(change.PSK.Sealed, change.PSK.Binding(fieldgate.PrincipalDevice, id))
		if err != nil || !bytes.Equal(opened, want.Key) || change.PSK.Identity != want.Device.PSK.Identity || len(change.PSK.Sealed) > fieldgate.MaxSealedPSK {
			t.Errorf("%s: %+v %q %v", id, change.PSK, opened, err)
		}
	}
	entries, err := audit.List(ctx, n.store, audit.Filter{Limit: 1})
	if err != nil || entries[0].Action != "device.psk" || entries[0].Target != "d2" || entries[0].Actor.Name == "" ||
		!strings.Contains(string(entries[0].After), `"pskIdentity":"Zähler 0007"`) || strings.Contains(fmt.Sprintf("%s %s", entries[0].After, entries[0].Detail), "maker") {
		t.Errorf("%+v %v", entries, err)
	}
	for name, refuse := range map[string]struct {
		id   string
		psk  NewPSK
		code refusal.Code
	}{
		"an identity of another":       {"d1", NewPSK{Identity: "Zähler 0007", Key: key}, refusal.CodeConflict},
		"another's id as identity":     {"d2", NewPSK{Identity: "d1", Key: key}, refusal.CodeConflict},
		"a key too short":              {"d1", NewPSK{Key: key[:15]}, refusal.CodeInvalid},
		"a key too long":               {"d1", NewPSK{Key: make([]byte, 65)}, refusal.CodeInvalid},
		"an identity too long":         {"d1", NewPSK{Identity: strings.Repeat("é", 65), Key: key}, refusal.CodeInvalid},
		"an identity not of UTF-8":     {"d1", NewPSK{Identity: "a\xff", Key: key}, refusal.CodeInvalid},
		"an identity not of printable": {"d1", NewPSK{Identity: "a\nb", Key: key}, refusal.CodeInvalid},
		"nobody":                       {"d9", NewPSK{Key: key}, refusal.CodeNotFound},
	} {
		if _, err := n.SetPSK(ctx, refuse.id, refuse.psk, directory.Basis{}); !refused(err, refuse.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.SetPSK(ctx, "d1", NewPSK{}, directory.Basis{Version: made.Device.Sequence + 9}); !refused(err, refusal.CodeChanged) {
		t.Error(err)
	}

	// The same key set again is another one for the gateways; removed, its identity is free.
	before := newest(t, n, "d2").PSK.Hash()
	if _, err := n.SetPSK(ctx, "d2", NewPSK{Identity: "Zähler 0007", Key: key}, directory.Basis{}); err != nil || newest(t, n, "d2").PSK.Hash() == before {
		t.Error("it is told as the same", err)
	}
	removed, err := n.RemovePSK(ctx, "d2", directory.Basis{})
	if err != nil || removed.PSK != nil || newest(t, n, "d2").PSK != nil {
		t.Errorf("%+v %v", removed, err)
	}
	again, err := n.RemovePSK(ctx, "d2", directory.Basis{})
	if err != nil || again.Sequence != removed.Sequence {
		t.Errorf("removed twice, it changed: %+v %v", again, err)
	}
	if _, err := n.SetPSK(ctx, "d1", NewPSK{Identity: "Zähler 0007"}, directory.Basis{}); err != nil {
		t.Error(err)
	}
	revoked, err := n.Revoke(ctx, "d1", directory.Basis{})
	if err != nil || revoked.PSK != nil || newest(t, n, "d1").PSK != nil {
		t.Errorf("%+v %v", revoked, err)
	}
	if _, err := n.SetPSK(ctx, "d1", NewPSK{}, directory.Basis{}); !refused(err, refusal.CodeConflict) {
		t.Error(err)
	}
}

// Who is registered with a pre-shared key has it; an import refuses one line, not the others.
func TestPSKAtRegistration(t *testing.T) {
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	key := []byte("0123456789abcdef")
	if _, _, err := n.Add(ctx, NewDevice{ID: "d1", PSK: &NewPSK{Key: key}}); err != nil {
		t.Fatal(err)
	}
	imported, err := n.Import(ctx, []NewDevice{{ID: "d2", PSK: &NewPSK{Identity: "d1", Key: key}}, {ID: "d3", PSK: &NewPSK{Key: key[:3]}},
		{ID: "d4", PSK: &NewPSK{Identity: "four", Key: key}}, {ID: "d5", PSK: &NewPSK{Identity: "four", Key: key}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false, true} {
		if (imported[i].Refused != nil) != want {
			t.Errorf("line %d: %+v", i+1, imported[i])
		}
	}
	for id, identity := range map[string]string{"d1": "d1", "d4": "four"} {
		if change := newest(t, n, id); change.PSK == nil || change.PSK.Identity != identity {
			t.Errorf("%s: %+v", id, change)
		}
	}
	b, err := n.BeginBulk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer b.End()
	if wrong, err := b.Check(ctx, []Line{{1, NewDevice{ID: "d6", PSK: &NewPSK{Key: key}}}}); err != nil || len(wrong) != 1 || wrong[0].Refused.Code != refusal.CodeInvalid {
		t.Errorf("%+v %v", wrong, err)
	}
}

// A node that has not the secrets key of the installation sets no pre-shared key, and does everything else.
func TestNodeWithoutTheSecretsKey(t *testing.T) {
	ctx, data := controltest.Context(t), t.TempDir()
	n := open(t, data)
	if _, _, err := n.Add(ctx, NewDevice{ID: "d1"}); err != nil {
		t.Fatal(err)
	}
	for name, secrets := range map[string]*seal.Keyring{"no file named": seal.Open("", false), "a file that is not there": seal.Open(filepath.Join(data, "none"), false)} {
		other := New(n.store, n.directory, secrets)
		if _, err := other.SetPSK(ctx, "d1", NewPSK{}, directory.Basis{}); !refused(err, refusal.CodeConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.SetPSK(ctx, "d1", NewPSK{}, directory.Basis{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, "another.key")
	other := New(n.store, n.directory, seal.Open(path, true))
	if _, err := other.SetPSK(ctx, "d1", NewPSK{}, directory.Basis{}); !refused(err, refusal.CodeConflict) {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a second secrets key was made")
	}
	if _, _, err := other.Add(ctx, NewDevice{ID: "d2"}); err != nil {
		t.Error(err)
	}
	if _, _, err := other.Add(ctx, NewDevice{ID: "d3", PSK: &NewPSK{Key: make([]byte, 16)}}); !refused(err, refusal.CodeConflict) {
		t.Error(err)
	}
	if _, err := other.RemovePSK(ctx, "d1", directory.Basis{}); err != nil {
		t.Error(err)
	}
	// Nothing is sealed by the other key any more.
	if _, err := other.SetPSK(ctx, "d1", NewPSK{}, directory.Basis{}); err != nil {
		t.Error(err)
	}
}

func selfSigned(t *testing.T, name string, until time.Duration) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(until)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// A certificate is one device's, until it is removed or the device revoked.
func TestCertificatesOfADevice(t *testing.T) {
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	for _, id := range []string{"d1", "d2"} {
		if _, _, err := n.Add(ctx, NewDevice{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	add := func(id, text string) (*Device, error) { return n.AddCertificate(ctx, id, text, directory.Basis{}) }
	first := selfSigned(t, "pump\x00 \u202eof the maker", time.Hour)
	device, err := add("d1", first)
	if err != nil || len(device.Certificates) != 1 || device.Certificates[0].Subject != "CN=pump of the maker" || device.Certificates[0].NotAfter.Before(time.Now()) {
		t.Fatalf("%+v %v", device, err)
	}
	fingerprint := device.Certificates[0].Fingerprint
	if change := newest(t, n, "d1"); len(change.Certificates) != 1 || change.Certificates[0] != fingerprint || len(change.Credentials) != 1 {
		t.Errorf("%+v", change)
	}
	if entries, err := audit.List(ctx, n.store, audit.Filter{Limit: 1}); err != nil || entries[0].Action != "device.certificate" || !strings.Contains(string(entries[0].After), fmt.Sprintf("%x", fingerprint)) {
		t.Errorf("%+v %v", entries, err)
	}
	if again, err := add("d1", first); err != nil || again.Sequence != device.Sequence {
		t.Errorf("added twice, it changed: %+v %v", again, err)
	}
	if _, err := add("d2", first); !refused(err, refusal.CodeConflict) || !strings.Contains(err.Error(), `"d1"`) {
		t.Error(err)
	}
	for name, text := range map[string]string{"nothing": "", "no PEM": "pump", "a key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"two": first + selfSigned(t, "b", time.Hour), "no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "expired": selfSigned(t, "c", -time.Minute)} {
		if _, err := add("d1", text); !refused(err, refusal.CodeInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range fieldgate.MaxCertificates - 1 {
		if _, err := add("d1", selfSigned(t, "more", time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := add("d1", selfSigned(t, "too many", time.Hour)); !refused(err, refusal.CodeConflict) {
		t.Error(err)
	}
	if _, err := n.RemoveCertificate(ctx, "d2", fingerprint, directory.Basis{}); !refused(err, refusal.CodeNotFound) {
		t.Error(err)
	}
	device, err = n.RemoveCertificate(ctx, "d1", fingerprint, directory.Basis{})
	if err != nil || len(device.Certificates) != fieldgate.MaxCertificates-1 || len(newest(t, n, "d1").Certificates) != fieldgate.MaxCertificates-1 {
		t.Errorf("%+v %v", device, err)
	}
	if _, err := add("d2", first); err != nil {
		t.Errorf("it is not free after its removal: %v", err)
	}
	if device, err = n.Revoke(ctx, "d2", directory.Basis{}); err != nil || device.Certificates != nil {
		t.Errorf("%+v %v", device, err)
	}
	if _, err := add("d2", first); !refused(err, refusal.CodeConflict) {
		t.Error(err)
	}
	if _, err := n.RemoveCertificate(ctx, "d1", newest(t, n, "d1").Certificates[0], directory.Basis{}); err != nil {
		t.Error(err)
	}
	if _, err := add("d1", first); err != nil {
		t.Errorf("it is not free after the revocation: %v", err)
	}
	if found, err := n.Get(ctx, "d1"); err != nil || len(found.Certificates) != fieldgate.MaxCertificates-1 || found.Certificates[2].Fingerprint != fingerprint {
		t.Errorf("%+v %v", found, err)
	}
}
