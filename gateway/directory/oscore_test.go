package directory

import (
	"bytes"
	"testing"

	"fieldgate"
)

// RFC 8613 §8.2: kid and kid context name a context, also after a restart and in a log that was rewritten; who has none, or another, is not found.
func TestOSCORE(t *testing.T) {
	folder, keys := t.TempDir(), secrets(t)
	d := open(t, folder)
	d.Secrets = keys
	with := func(change fieldgate.DirectoryChange, kid, idContext string) fieldgate.DirectoryChange {
		c := &fieldgate.SealedOSCORE{SenderID: []byte(kid), RecipientID: []byte("g"), IDContext: []byte(idContext)}
		c.Sealed = keys.Key().Seal(fieldgate.JoinOSCORESecrets(pskKey, []byte("salt")), c.Binding(change.Kind, change.ID))
		change.OSCORE = c
		return change
	}
	both := withPSK(with(device(1, "d1", 0, 1), "1", ""), keys, "d1")
	apply(t, d, both, with(device(2, "d2", 0, 2), "1", "elsewhere"), with(device(3, "d3", 0), "", ""), device(4, "d4", 0, 4))
	check := func(when string) {
		t.Helper()
		for name, want := range map[[2]string]string{{"1", ""}: "d1", {"1", "elsewhere"}: "d2", {"", ""}: "d3", {"2", ""}: "", {"", "elsewhere"}: "", {"1", "else"}: ""} {
			sealed, who, found := d.OSCORE([]byte(name[0]), []byte(name[1]))
			if found != (want != "") || found && (d.Principal(who.Ref).ID != want || !d.Holds(who.Ref, &who.Hash)) {
				t.Errorf("%s: %q: %+v, %v", when, name, who, found)
				continue
			}
			if !found {
				continue
			}
			if secret, salt, err := d.OpenOSCORE(who.Ref, sealed); err != nil || !bytes.Equal(secret, pskKey) || string(salt) != "salt" || string(sealed.RecipientID) != "g" {
				t.Errorf("%s: %q: %q, %q, %v", when, name, secret, salt, err)
			}
		}
		if _, _, ok := d.PSK([]byte("d1")); !ok || len(d.Tokens("d1")) != 1 {
			t.Errorf("%s: the other credentials are lost", when)
		}
	}
	check("applied")
	if n := testing.AllocsPerRun(100, func() { d.OSCORE([]byte("2"), nil) }); n != 0 {
		t.Errorf("a stranger's look-up allocates %v times", n)
	}
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

	_, who, _ := d.OSCORE([]byte("1"), nil)
	apply(t, d, with(device(5, "d1", 0, 1), "9", ""), with(device(6, "d4", 0, 4), "1", ""))
	if _, now, found := d.OSCORE([]byte("1"), nil); !found || d.Principal(now.Ref).ID != "d4" || d.Holds(who.Ref, &who.Hash) {
		t.Error("an identifier that went to another device still is the first one's")
	}
}
