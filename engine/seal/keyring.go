package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Keyring holds the key of one file. It is safe for concurrent use.
type Keyring struct {
	path string
	own  bool // the file is this node's alone: it is made when it is first needed

	mu      sync.Mutex // held to read or make the file
	key     atomic.Pointer[Key]
	problem atomic.Pointer[string]
}

// Open reads the key. It does not fail: Problem says what is wrong with the file. An own file is made by Need; one that is not has to be
// the same on all nodes, and an empty path means that nobody has named it yet.
func Open(path string, own bool) *Keyring {
	r := &Keyring{path: path, own: own}
	r.Reload()
	return r
}

// Key is the key; nil: there is none yet. A nil Keyring has none.
func (r *Keyring) Key() *Key {
	if r == nil {
		return nil
	}
	return r.key.Load()
}

// Name is Key.Name, empty where there is no key.
func (r *Keyring) Name() string {
	if key := r.Key(); key != nil {
		return key.Name()
	}
	return ""
}

// Problem is why there is no key although one is named, or why the file cannot be used; empty: nothing is wrong.
func (r *Keyring) Problem() string {
	if r == nil {
		return ""
	}
	if problem := r.problem.Load(); problem != nil {
		return *problem
	}
	return ""
}

// Reload reads the file again. A file that cannot be read leaves the key as it is.
func (r *Keyring) Reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problem.Store(nil)
	if r.path == "" {
		return
	}
	key, err := readKey(r.path)
	switch {
	case err == nil:
		r.key.Store(key)
	case r.own && errors.Is(err, fs.ErrNotExist) && r.Key() == nil:
	default:
		problem := err.Error()
		r.problem.Store(&problem)
	}
}

// ErrNotNamed says that a key is needed which several nodes have to share.
var ErrNotNamed = errors.New("there is no secrets key that all nodes share: make one with \"openssl rand -hex 32\", and name its file on every node by the setting secrets-key-file")

// Need is the key, which is made if there is none and the file is the node's own.
func (r *Keyring) Need() (*Key, error) {
	if key := r.Key(); key != nil {
		return key, nil
	}
	if r == nil || r.path == "" {
		return nil, ErrNotNamed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key, err := readKey(r.path)
	if r.own && errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(r.path); err == nil {
			key, err = readKey(r.path)
		}
	}
	if err != nil {
		return nil, err
	}
	r.problem.Store(nil)
	r.key.Store(key)
	return key, nil
}

// maxFile is more than a key and the white space about it.
const maxFile = 1 << 10

// readKey reads a file with 64 hexadecimal digits that nobody but its owner may read.
func readKey(path string) (*Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the secrets key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("the secrets key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("others may read the secrets key %s (mode %04o): run \"chmod 600 %s\", and think of who may have read it", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, fmt.Errorf("the secrets key: %w", err)
	}
	secret := make([]byte, keyBytes)
	text = bytes.TrimSpace(text)
	if len(text) != hex.EncodedLen(keyBytes) {
		return nil, fmt.Errorf("%s holds no secrets key: write 64 hexadecimal digits, as \"openssl rand -hex 32\" does", path)
	}
	if _, err := hex.Decode(secret, text); err != nil {
		return nil, fmt.Errorf("%s holds no secrets key: write 64 hexadecimal digits, as \"openssl rand -hex 32\" does", path) // not what is there
	}
	return newKey(secret)
}

// makeKey writes a new key. A crash leaves no half of it, and two processes do not make two.
func makeKey(path string) error {
	secret := make([]byte, keyBytes)
	rand.Read(secret)                                        // which never fails
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // for its owner only
	if err != nil {
		return fmt.Errorf("the secrets key: %w", err)
	}
	defer os.Remove(file.Name())
	if _, err = fmt.Fprintf(file, "%x\n", secret); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Link(file.Name(), path) // unless somebody else has made one
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the secrets key: %w", err)
	}
	return nil
}

// syncFolder makes the file's name durable before anything is sealed by what is in it.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
