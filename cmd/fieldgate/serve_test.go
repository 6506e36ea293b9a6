package main

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
)

// A service manager that started us with Type=notify hears one datagram for each state (sd_notify(3)).
func TestTellSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	tellSystemd(slog.New(slog.NewTextHandler(t.Output(), nil)), "READY=1")
	buffer := make([]byte, 64)
	n, err := conn.Read(buffer)
	if err != nil || string(buffer[:n]) != "READY=1" {
		t.Errorf("%q %v", buffer[:n], err)
	}
}
