package sim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate/protocol/coap"
	"fieldgate/test/port"
)

const deadline = 20 * time.Second

// run lets a fleet work until done says so, or the deadline fails the test.
func run(t *testing.T, config Config, done func(*Fleet) bool) *Fleet {
	t.Helper()
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	config.Interval = 20 * time.Millisecond
	fleet, err := NewFleet(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(ctx) }()
	for !done(fleet) {
		if ctx.Err() != nil {
			t.Fatalf("not seen in %s: %+v", deadline, fleet.Reports())
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return fleet
}

func tokens(devices []Device) map[string]string {
	all := map[string]string{}
	for _, d := range devices {
		all[d.ID] = "token-of-" + d.ID
	}
	return all
}

func total(f *Fleet) Counts {
	var all Counts
	for _, p := range []Protocol{MQTT, CoAP, HTTP} {
		counts := f.Totals(p)
		all.add(&counts)
	}
	return all
}

func TestHTTPDevicesSendAndCountVerdicts(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + r.Header.Get("X-Meter-Key")
		mu.Lock()
		seen[token] = true
		mu.Unlock()
		switch {
		case strings.HasPrefix(token, "fgd_"): // the device with the wrong key has one that nobody issued
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(r.URL.Path, "/debug/"):
			w.WriteHeader(http.StatusNotFound)
		case strings.Contains(r.URL.Path, "/state"):
			w.WriteHeader(http.StatusBadGateway)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer server.Close()
	devices := Plan(Size{HTTP: 10}, 1)
	fleet := run(t, Config{HTTP: server.Listener.Addr().String(), Devices: devices, Tokens: tokens(devices), Seed: 1}, func(f *Fleet) bool {
		c := f.Totals(HTTP)
		return c.Passed > 50 && c.Refused > 5 && c.Failed > 5
	})
	for _, report := range fleet.Reports() {
		switch report.Device.Behaviour {
		case WrongKey:
			if report.Counts.Refused == 0 || report.Verdicts["401"] != report.Counts.Refused {
				t.Errorf("%+v", report)
			}
		case Undocumented:
			if report.Verdicts["404"] == 0 {
				t.Errorf("%+v", report)
			}
		}
		if sum := report.Counts; sum.Sent != sum.Passed+sum.Refused+sum.Failed+sum.Unanswered {
			t.Errorf("%s: the outcomes do not add up: %+v", report.Device.ID, sum)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, d := range devices {
		if d.Registered() && d.Behaviour != WrongKey && !seen["token-of-"+d.ID] {
			t.Errorf("%s did not present its token", d.ID)
		}
	}
}

func TestAnUnansweredFleetStops(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts and says nothing
	devices := Plan(Size{HTTP: 9, MQTT: 9, CoAP: 9}, 1)
	config := Config{HTTP: l.Addr().String(), MQTT: l.Addr().String(), CoAP: l.Addr().String(), Devices: devices, Tokens: tokens(devices), Interval: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	fleet, err := NewFleet(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := fleet.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestCoAPDevices(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server, err := coap.NewUDP(conn, coap.Config{}, 4, func(_ context.Context, request *coap.Request, response *coap.Response) {
		token, _ := request.Option(optionCredential)
		switch {
		case strings.HasPrefix(string(token), "fgd_"):
			response.Code = coap.Unauthorized
		case strings.HasPrefix(request.Path(), "/debug"):
			response.Code = coap.NotFound
		case request.Code == coap.POST:
			response.Code = coap.Changed
		default:
			response.Code = coap.Content
		}
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	devices := Plan(Size{CoAP: 10}, 1)
	fleet := run(t, Config{CoAP: conn.LocalAddr().String(), Devices: devices, Tokens: tokens(devices), Seed: 1}, func(f *Fleet) bool {
		c := f.Totals(CoAP)
		return c.Passed > 50 && c.Refused > 5
	})
	seen := map[string]uint64{}
	for _, report := range fleet.Reports() {
		for text, n := range report.Verdicts {
			seen[text] += n
		}
	}
	if seen["2.04"] == 0 || seen["2.05"] == 0 || seen["4.01"] == 0 || seen["4.04"] == 0 || len(seen) != 4 {
		t.Errorf("verdicts %v", seen)
	}
}

// mosquitto is a real broker that knows one password for all.
func mosquitto(t *testing.T, devices []Device) (address string) {
	t.Helper()
	address = port.Free(t, "tcp")
	_, number, _ := net.SplitHostPort(address)
	folder := t.TempDir()
	passwords := filepath.Join(folder, "passwords")
	var lines strings.Builder
	for _, d := range devices {
		fmt.Fprintf(&lines, "%s:token-of-%s\n", d.ID, d.ID)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("passwords", lines.String())
	if out, err := exec.Command("mosquitto_passwd", "-U", passwords).CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	write("acl", "pattern readwrite d/%u/#\npattern readwrite tracker/%u/#\npattern readwrite meter/%u/#\n")
	user := ""
	if os.Getuid() == 0 {
		user = "user root\n"
	}
	write("mosquitto.conf", fmt.Sprintf("%slistener %s 127.0.0.1\nallow_anonymous false\npassword_file %s\nacl_file %s/acl\n", user, number, passwords, folder))
	broker := exec.Command("mosquitto", "-c", filepath.Join(folder, "mosquitto.conf"))
	broker.Stdout, broker.Stderr = t.Output(), t.Output()
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		broker.Process.Kill()
		broker.Wait()
	})
	for range 200 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("mosquitto does not listen")
	return ""
}

func TestMQTTDevicesAtMosquitto(t *testing.T) {
	devices := Plan(Size{MQTT: 12}, 1)
	fleet := run(t, Config{MQTT: mosquitto(t, devices), Devices: devices, Tokens: tokens(devices), Seed: 1}, func(f *Fleet) bool {
		c := f.Totals(MQTT)
		return c.Passed > 100 && c.Refused > 3
	})
	for _, report := range fleet.Reports() {
		c := report.Counts
		switch {
		case report.Device.Behaviour == WrongKey, report.Device.Product == Legacy:
			if c.Passed > 0 || c.Refused == 0 || report.Verdicts["not authorized (0x87)"] != c.Refused {
				t.Errorf("%+v", report)
			}
		case report.Device.Behaviour == Regular && (c.Refused > 0 || c.Passed == 0):
			t.Errorf("%+v", report)
		case report.Device.Behaviour == Impersonator && report.Verdicts["not authorized (0x87)"] == 0:
			t.Errorf("%+v", report)
		}
	}
	if total(fleet).Unanswered > 0 {
		t.Errorf("%+v", total(fleet))
	}
}
