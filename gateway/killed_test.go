package gateway

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/recorder"
	"fieldgate/test/nats"
)

// TestKilled kills a gateway that serves from its disk copy while the bus is away. Its Records arrive after the next start, each once.
func TestKilled(t *testing.T) {
	connect := func(urls string) *bus.Bus {
		b, err := bus.Connect(bus.Cluster{URLs: urls, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	if folder := os.Getenv("GATEWAY_KILL_TEST"); folder != "" {
		g := run(t, folder, connect(os.Getenv("GATEWAY_KILL_BUS")))
		fmt.Printf("serving %s\n", g.Addresses()["http"])
		select {}
	}
	c, p, folder := nats.New(t, 1, ""), &plane{}, t.TempDir()
	control := connect(c.URLs())
	if _, err := control.Keep(t.Context(), bus.Stream{Name: fieldgate.StreamRecords, Subjects: []string{fieldgate.SubjectRecords + ">"}, MaxBytes: 1 << 20, MaxAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	token, hashes := newToken(t)
	p.change(t, fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "d1", Credentials: hashes})
	p.publish(t, mocked("one", "/one"))
	p.open(t, control)
	g := run(t, folder, connect(c.URLs()))
	for state := range p.states {
		if state.Snapshot == 1 && state.Directory == 1 {
			break
		}
	}
	g.end()
	p.close()
	c.Stop()

	requests := 0
	for range 3 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), "GATEWAY_KILL_TEST="+folder, "GATEWAY_KILL_BUS="+c.URLs())
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		address := ""
		for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
			if text, found := strings.CutPrefix(lines.Text(), "serving "); found {
				address = text
			}
		}
		alone := &running{Gateway: &Gateway{addresses: map[string]string{"http": address}}, t: t}
		for range 50 {
			alone.get("/one", token, 200, `"one"`)
			requests++
		}
		// The last Records are in the outbox within an interval.
		for deadline := time.Now().Add(patience); waiting(t, folder) < requests && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		child.Process.Kill()
		child.Wait()
	}
	c.Start(0)
	run(t, folder, connect(c.URLs()))
	if epochs := arrived(t, control, requests); len(epochs) != 3 {
		t.Errorf("%d epochs", len(epochs))
	}
}

// waiting counts the exchanges that have Records in the outbox of a gateway that runs, in a copy.
func waiting(t *testing.T, folder string) (exchanges int) {
	t.Helper()
	twin := t.TempDir()
	if err := os.CopyFS(twin, os.DirFS(filepath.Join(folder, "outbox"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := recorder.Open(recorder.Config{Folder: twin, Logger: slog.New(slog.DiscardHandler), Sink: func(_ context.Context, _ string, batch []byte) error {
		decoded, err := fieldgate.DecodeRecords(batch)
		if err == nil {
			for i := range decoded.Records {
				exchanges += int(decoded.Records[i].Exchanges())
			}
		}
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	r.Run(ctx)
	return exchanges
}
