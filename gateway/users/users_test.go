package users

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// passwords writes a file by mosquitto's own tool.
func passwords(t *testing.T, path string, arguments ...string) {
	t.Helper()
	for i := 0; i < len(arguments); i += 3 {
		command := []string{"-b"}
		if _, err := os.Stat(path); err != nil {
			command = append(command, "-c")
		}
		if output, err := exec.Command("mosquitto_passwd", append(command, "-H", arguments[i], path, arguments[i+1], arguments[i+2])...).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_passwd: %v: %s", err, output)
		}
	}
}

func TestFileOfMosquitto(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	passwords(t, path, "sha512-pbkdf2", "alice", "secret", "sha512", "bob", "häßlich:x y", "sha512-pbkdf2", "carol", strings.Repeat("p", 200))
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, password string
		right          bool
	}{
		{"alice", "secret", true}, {"alice", "Secret", false}, {"alice", "", false},
		{"bob", "häßlich:x y", true}, {"bob", "secret", false}, {"carol", strings.Repeat("p", 200), true},
		{"dave", "secret", false}, {"", "", false}, {"Alice", "secret", false},
	} {
		user := f.Check([]byte(c.name), []byte(c.password))
		if (user != nil) != c.right || user != nil && (user.Name() != c.name || !f.Holds(user)) {
			t.Errorf("%q with %q: %v", c.name, c.password, user)
		}
	}
}

// A change of the file counts for those that it is about, and a broken file for nobody.
func TestChangedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	passwords(t, path, "sha512", "alice", "a", "sha512", "bob", "b", "sha512", "carol", "c")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	alice, bob, carol := f.Check([]byte("alice"), []byte("a")), f.Check([]byte("bob"), []byte("b")), f.Check([]byte("carol"), []byte("c"))
	version := f.Version()
	if changed, err := f.Look(false); changed || err != nil {
		t.Fatal(changed, err)
	}
	passwords(t, path, "sha512", "bob", "other")
	if output, err := exec.Command("mosquitto_passwd", "-D", path, "carol").CombinedOutput(); err != nil {
		t.Fatal(err, string(output))
	}
	if changed, err := f.Look(true); !changed || err != nil || f.Version() == version {
		t.Fatal(changed, err)
	}
	if !f.Holds(alice) || f.Holds(bob) || f.Holds(carol) || f.Check([]byte("bob"), []byte("other")) == nil {
		t.Error("the change is not what counts")
	}
	if err := os.WriteFile(path, []byte("alice:plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(path, time.Time{}, time.Unix(1, 0))
	if changed, err := f.Look(false); changed || err == nil || !strings.Contains(err.Error(), "line 1: the password is not hashed") {
		t.Errorf("broken: %v, %v", changed, err)
	}
	if changed, err := f.Look(false); changed || err != nil {
		t.Errorf("said again: %v, %v", changed, err)
	}
	os.Remove(path)
	if _, err := f.Look(false); err == nil {
		t.Error("nothing is said of a file that is gone")
	}
	if _, err := f.Look(false); err != nil {
		t.Error("said again:", err)
	}
	if !f.Holds(alice) {
		t.Error("a broken file counted")
	}
}

func line(name string, iterations int) string {
	hash, _ := pbkdf2.Key(sha512.New, "p", []byte("salt"), iterations, sha512.Size)
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s:$7$%d$%s$%s", name, iterations, encode([]byte("salt")), encode(hash))
}

func TestRefusedFiles(t *testing.T) {
	good := line("alice", 1)
	for text, want := range map[string]string{
		"alice:secret":                                         "line 1: the password is not hashed",
		"alice":                                                "not hashed",
		"alice:$argon2id$v=19$m=65536,t=3$a$b":                 "mosquitto_passwd -H sha512-pbkdf2",
		"# a comment\n\n" + good + "\n" + good:                 `line 4: "alice" is there twice`,
		":" + good[len("alice:"):]:                             "a name has 1 to 128 bytes",
		strings.Repeat("n", 129) + good[5:]:                    "a name has 1 to 128 bytes",
		strings.Replace(good, "$1$", "$0$", 1):                 "the iterations are no number from 1 to 1000000",
		strings.Replace(good, "$1$", "$9e9$", 1):               "the iterations",
		strings.Replace(good, "$1$", "$1000001$", 1):           "the iterations",
		good[:len(good)-8]:                                     "not hashed",
		"alice:$6$!$!":                                         "not hashed",
		"alice:$7$1$" + strings.Repeat("A", 2*maxLine) + "$AA": "it is no file of users",
	} {
		path := filepath.Join(t.TempDir(), "passwords")
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was opened")
	}
}

func TestEmptyFileLetsNobodyIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil || f.Check([]byte("a"), []byte("b")) != nil || f.Check(nil, nil) != nil {
		t.Error("somebody is in", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(line("alice", 1) + "\nbob:$6$c2FsdA==$AAAA\n# c\n\r\n"))
	f.Add([]byte(":$7$$$"))
	f.Fuzz(func(t *testing.T, text []byte) {
		read, _, err := parse(bytes.NewReader(text), &table{})
		if err != nil {
			return
		}
		for name, user := range read.users {
			if name != user.name || len(user.hash) != sha512.Size || user.iterations > maxIterations {
				t.Errorf("%q: %+v", name, user)
			}
		}
		if _, changed, err := parse(bytes.NewReader(text), read); changed || err != nil {
			t.Errorf("read again it differs: %v", err)
		}
	})
}
