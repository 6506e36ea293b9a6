// Package mosquittotest runs a Mosquitto broker for tests.
package mosquittotest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate/test/port"
)

// Broker can be killed and started again at its port.
type Broker struct {
	Address string // host:port

	t       testing.TB
	command *exec.Cmd
}

// Start starts a broker that keeps its sessions on disk and lets everybody in, unless further lines of configuration say otherwise. It ends with
// the test.
func Start(t testing.TB, lines ...string) *Broker {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			t.Fatal("these tests need mosquitto: ", err)
		}
	}
	b := &Broker{Address: port.Free(t), t: t}
	_, number, _ := net.SplitHostPort(b.Address)
	folder := t.TempDir()
	text := "user root\nlistener " + number + " 127.0.0.1\npersistence true\npersistence_location " + folder + "/\n" + strings.Join(lines, "\n") + "\n"
	if !strings.Contains(text, "allow_anonymous") {
		text += "allow_anonymous true\n"
	}
	configuration := filepath.Join(folder, "conf")
	if err := os.WriteFile(configuration, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	b.command = exec.Command(program, "-c", configuration)
	b.Restart()
	t.Cleanup(b.Kill)
	return b
}

// Restart starts the broker after Kill.
func (b *Broker) Restart() {
	b.t.Helper()
	b.command = exec.Command(b.command.Path, b.command.Args[1:]...)
	if err := b.command.Start(); err != nil {
		b.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", b.Address); err == nil {
			conn.Close()
			return
		}
	}
	b.t.Fatal("mosquitto does not listen")
}

// Kill ends the broker at once, as a power cut would.
func (b *Broker) Kill() {
	if b.command.ProcessState == nil {
		b.command.Process.Kill()
		b.command.Wait()
	}
}
