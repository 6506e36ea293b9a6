package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func ring(t *testing.T) (*Keyring, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secrets.key")
	return Open(path, true), path
}

func need(t *testing.T, r *Keyring) *Key {
	t.Helper()
	key, err := r.Need()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What is sealed says nothing, opens for its owner only, and only unaltered.
func TestSealAndOpen(t *testing.T) {
	r, _ := ring(t)
	key := need(t, r)
	secret := []byte("sixteen bytes...")
	sealed := key.Seal(secret, "device d7")
	if bytes.Contains(sealed, secret) || len(sealed) != len(secret)+Overhead || bytes.Equal(sealed, key.Seal(secret, "device d7")) {
		t.Fatalf("%x", sealed)
	}
	if got, err := key.Open(sealed, "device d7"); err != nil || !bytes.Equal(got, secret) {
		t.Fatal(got, err)
	}
	if KeyName(sealed) != key.Name() || KeyName(nil) != "" {
		t.Error(KeyName(sealed), key.Name())
	}
	if _, err := key.Open(sealed, "device d8"); !errors.Is(err, ErrAltered) {
		t.Error(err)
	}
	for i := range sealed {
		altered := bytes.Clone(sealed)
		altered[i] ^= 1
		if _, err := key.Open(altered, "device d7"); err == nil {
			t.Errorf("byte %d does not count", i)
		}
		if _, err := key.Open(sealed[:i], "device d7"); err == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
	other, _ := ring(t)
	if _, err := need(t, other).Open(sealed, "device d7"); !errors.Is(err, ErrOtherKey) {
		t.Error(err)
	}
}

// The file is made when it is needed, by one of all that need it, for its owner only.
func TestKeyIsMadeOnce(t *testing.T) {
	r, path := ring(t)
	if r.Key() != nil || r.Problem() != "" || r.Name() != "" {
		t.Fatal("there is a key before it is needed")
	}
	names := make([]string, 8)
	var all sync.WaitGroup
	for i := range names {
		all.Go(func() {
			if key, err := Open(path, true).Need(); err == nil {
				names[i] = key.Name()
			}
		})
	}
	all.Wait()
	for _, name := range names {
		if name == "" || name != need(t, r).Name() {
			t.Fatal(names)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Error(files, err)
	}
}

// A file that cannot be used is a problem that says what to do, and tells nothing of what is in it.
func TestFilesThatCannotBeUsed(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 4)
	for name, test := range map[string]struct {
		content string
		mode    os.FileMode
		own     bool
		want    string
	}{
		"whole":          {digits + "\n", 0o600, false, ""},
		"open to others": {digits, 0o640, false, "chmod 600"},
		"too short":      {digits[:62], 0o600, true, "openssl rand -hex 32"},
		"no digits":      {digits[:62] + "xx", 0o600, true, "openssl rand -hex 32"},
		"too long":       {digits + digits, 0o600, false, "openssl rand -hex 32"},
		"missing":        {"", 0, false, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "shared.key")
			if test.mode != 0 {
				if err := os.WriteFile(path, []byte(test.content), test.mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, test.mode); err != nil {
					t.Fatal(err)
				}
			}
			r := Open(path, test.own)
			if got := r.Problem(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) || strings.Contains(got, digits[:16]) {
				t.Error(got)
			}
			if _, err := r.Need(); (err == nil) != (test.want == "") {
				t.Error(err)
			}
			if test.want == "" {
				return
			}
			os.Remove(path)
			if err := os.WriteFile(path, []byte(digits), 0o600); err != nil {
				t.Fatal(err)
			}
			r.Reload()
			if r.Problem() != "" || r.Key() == nil {
				t.Error("a file that was corrected does not count")
			}
		})
	}
}

// A key that was read stays in force when its file is gone, and who has named none is told how to.
func TestReload(t *testing.T) {
	r, path := ring(t)
	name := need(t, r).Name()
	os.Remove(path)
	if r.Reload(); r.Name() != name || r.Problem() == "" {
		t.Error(r.Name(), r.Problem())
	}
	nobody := Open("", false)
	if _, err := nobody.Need(); !errors.Is(err, ErrNotNamed) || nobody.Problem() != "" {
		t.Error(err, nobody.Problem())
	}
	var none *Keyring
	if none.Key() != nil || none.Name() != "" || none.Problem() != "" {
		t.Error("a nil Keyring has a key")
	}
}
