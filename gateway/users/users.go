// Package users knows the users of an on-ramp: their names and hashed passwords, from a file that mosquitto_passwd writes.
//
// It owns nothing but what it has read. It promises that a password is compared in constant time, that a name which is not there costs
// what a wrong password does, and that a file which is broken changes nothing. Whoever was let in can ask whether that still stands.
package users

import (
	"bufio"
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
)

const (
	maxFile       = 256 << 20
	maxLine       = 4 << 10
	maxIterations = 1_000_000 // of PBKDF2: most of a second
	maxSalt       = 64
)

// File is safe for concurrent use.
type File struct {
	path    string
	current atomic.Pointer[table]
	version atomic.Uint32
	checks  chan struct{} // one token for each under way: passwords that are tried leave processors for those who are in

	mu   sync.Mutex // held to read the file
	seen stamp
}

type table struct {
	users    map[string]*User
	stranger *User // whose password is tried in place of one that is not there; nil: nobody is
}

// User is one line of the file.
type User struct {
	name       string
	iterations int // of PBKDF2; 0: SHA-512 alone
	salt, hash []byte
}

// stamp changes when the file does.
type stamp struct {
	modified time.Time
	size     int64
}

// Open reads the file, which has to be there. An error names the line and says what to write.
func Open(path string) (*File, error) {
	f := &File{path: path, checks: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	if _, err := f.Look(true); err != nil {
		return nil, err
	}
	return f, nil
}

// Look reads the file again if it has changed since, or must be read again, and says whether its users have. After an error all is as it was.
func (f *File) Look(again bool) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return false, f.once(stamp{}, again, err)
	}
	now := stamp{info.ModTime(), info.Size()}
	if now == f.seen && !again {
		return false, nil
	}
	f.seen = now
	file, err := os.Open(f.path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	before := f.current.Load()
	if before == nil {
		before = &table{}
	}
	read, changed, err := parse(io.LimitReader(file, maxFile), before)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	if changed || f.current.Load() == nil {
		f.current.Store(read)
		f.version.Add(1)
	}
	return changed, nil
}

// once gives an error the first time that it is seen.
func (f *File) once(now stamp, again bool, err error) error {
	if now == f.seen && !again {
		return nil
	}
	f.seen = now
	return err
}

// parse reads lines of NAME:HASH. Users that are as before stay the same.
func parse(r io.Reader, before *table) (read *table, changed bool, err error) {
	read = &table{users: make(map[string]*User)}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimRight(lines.Text(), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		user, err := parseLine(line)
		if err == nil && read.users[user.name] != nil {
			err = fmt.Errorf("%q is there twice", user.name)
		}
		if err != nil {
			return nil, false, fmt.Errorf("line %d: %w", number, err)
		}
		if old := before.users[user.name]; old != nil && old.iterations == user.iterations && bytes.Equal(old.salt, user.salt) && bytes.Equal(old.hash, user.hash) {
			user = old
		} else {
			changed = true
		}
		read.users[user.name] = user
		if read.stranger == nil {
			read.stranger = user
		}
	}
	if err := lines.Err(); err != nil {
		return nil, false, fmt.Errorf("%w: it is no file of users: write one with mosquitto_passwd", err)
	}
	return read, changed || len(read.users) != len(before.users), nil
}

var errNotHashed = errors.New(`the password is not hashed as mosquitto_passwd does ("$7$" or "$6$"): run "mosquitto_passwd -U" on the file, or set the password again with "mosquitto_passwd -H sha512-pbkdf2"`)

// parseLine reads NAME:$7$ITERATIONS$SALT$HASH (PBKDF2 with HMAC-SHA-512) or NAME:$6$SALT$HASH (SHA-512 of password and salt).
func parseLine(line string) (*User, error) {
	name, secret, _ := strings.Cut(line, ":")
	if name == "" || len(name) > fieldgate.MaxIdentifierBytes {
		return nil, fmt.Errorf("a name has 1 to %d bytes", fieldgate.MaxIdentifierBytes)
	}
	user := &User{name: name}
	parts := strings.Split(secret, "$") // the first is empty
	switch {
	case len(parts) == 5 && parts[0] == "" && parts[1] == "7":
		var err error
		if user.iterations, err = strconv.Atoi(parts[2]); err != nil || user.iterations < 1 || user.iterations > maxIterations {
			return nil, fmt.Errorf("the iterations are no number from 1 to %d", maxIterations)
		}
	case len(parts) == 4 && parts[0] == "" && parts[1] == "6":
	default:
		return nil, errNotHashed
	}
	var errSalt, errHash error
	user.salt, errSalt = base64.StdEncoding.DecodeString(parts[len(parts)-2])
	user.hash, errHash = base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if errSalt != nil || errHash != nil || len(user.salt) == 0 || len(user.salt) > maxSalt || len(user.hash) != sha512.Size {
		return nil, errNotHashed
	}
	return user, nil
}

// Check finds the user with that name and password. nil: there is none.
func (f *File) Check(name, password []byte) *User {
	current := f.current.Load()
	user, known := current.users[string(name)]
	if !known {
		user = current.stranger
	}
	if user == nil {
		return nil
	}
	f.checks <- struct{}{}
	defer func() { <-f.checks }()
	if !user.matches(password) || !known {
		return nil
	}
	return user
}

func (u *User) matches(password []byte) bool {
	var hash []byte
	if u.iterations == 0 {
		sum := sha512.New()
		sum.Write(password)
		sum.Write(u.salt)
		hash = sum.Sum(nil)
	} else {
		var err error
		if hash, err = pbkdf2.Key(sha512.New, string(password), u.salt, u.iterations, sha512.Size); err != nil {
			return false
		}
	}
	return subtle.ConstantTimeCompare(hash, u.hash) == 1
}

// Holds says whether the user is still there, with the same password.
func (f *File) Holds(user *User) bool { return f.current.Load().users[user.name] == user }

// Version is another one after each change.
func (f *File) Version() uint32 { return f.version.Load() }

// Name is what the user is called.
func (u *User) Name() string { return u.name }

// Mark tells the user and its password from others, also after a restart, and lets nobody in.
func (u *User) Mark() [sha256.Size]byte {
	return sha256.Sum256(slices.Concat([]byte(u.name), []byte{0, byte(min(u.iterations, 1))}, u.salt, u.hash))
}

// Recall finds the user of a mark; nil: it is not there any more, or has another password.
func (f *File) Recall(name string, mark [sha256.Size]byte) *User {
	if user := f.current.Load().users[name]; user != nil && user.Mark() == mark {
		return user
	}
	return nil
}
