package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// What is written is read back, and what the file says of defaults is true.
func TestEnvironmentFile(t *testing.T) {
	folder := t.TempDir()
	e := defaultEnvironment()
	e.Upstreams = map[string]upstream{"ingest": {Addresses: []string{"http://127.0.0.1:9000", "http://127.0.0.1:9001"}, Timeout: 5 * time.Second, ConnectTimeout: time.Second}}
	e.Log.Level = slog.LevelWarn
	path := filepath.Join(folder, "written.yaml")
	if err := e.write(path); err != nil {
		t.Fatal(err)
	}
	read, err := readEnvironment(path)
	if err != nil {
		t.Fatal(err)
	}
	want := e
	want.path, want.Data, want.AdminSocket = path, filepath.Join(folder, "data"), filepath.Join(folder, "data", "admin.sock")
	if !reflect.DeepEqual(*read, want) {
		t.Errorf("got  %+v\nwant %+v", *read, want)
	}
	if err := e.write(path); !os.IsExist(err) {
		t.Errorf("a file is overwritten: %v", err)
	}

	shown, empty := filepath.Join(folder, "shown.yaml"), filepath.Join(folder, "empty.yaml")
	if err := defaultEnvironment().write(shown); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, []byte("# nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := readEnvironment(shown)
	if err != nil {
		t.Fatal(err)
	}
	b, err := readEnvironment(empty)
	if err != nil {
		t.Fatal(err)
	}
	a.path, b.path, a.Upstreams = "", "", nil
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the defaults that are shown are not those in force:\n%+v\n%+v", a, b)
	}
}

func TestListenersCanBeOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "off.yaml")
	if err := os.WriteFile(path, []byte("listen: {http: off, mqtt: 'off', coap: off, admin: off, health: off}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := readEnvironment(path)
	if err != nil {
		t.Fatal(err)
	}
	if e.Listen != (listen{}) {
		t.Errorf("%+v", e.Listen)
	}
}
