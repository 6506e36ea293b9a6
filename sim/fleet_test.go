package sim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate/protocol/coap"
	"fieldgate/protocol/dtls"
	"fieldgate/test/port"
)

const deadline = time.Minute

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
		for _, report := range f.Reports() { // each has had its turn, and its way
			switch report.Device.Behaviour {
			case WrongKey:
				if report.Counts.Refused == 0 {
					return false
				}
			case Undocumented:
				if report.Verdicts["404"] == 0 {
					return false
				}
			}
			if report.Device.Registered() && report.Counts.Sent == 0 {
				return false
			}
		}
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
	devices := Plan(Size{HTTP: 9, MQTT: 9, CoAP: 7}, 1)
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

// coapServer is one that answers over UDP, DTLS and TCP.
type coapServer struct{ udp, dtls, tcp string }

func serveCoAP(t *testing.T, keys map[string][]byte, handler coap.Handler) *coapServer {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	run := func(run func(context.Context) error) {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	listen := func() (*net.UDPConn, *coap.UDP) {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		must(err)
		udp, err := coap.NewUDP(conn, coap.Config{}, 4, handler, log)
		must(err)
		return conn, udp
	}
	plain, udp := listen()
	run(udp.Run)
	secure, secured := listen()
	sessions, err := dtls.NewServer(dtls.Config{Send: secured.Send, Receive: secured.Feed,
		PSK:   func(identity []byte) ([]byte, bool) { return keys[string(identity)], keys[string(identity)] != nil },
		Admit: func(identity dtls.Identity) (any, error) { return identity.PSK, nil }}, time.Now())
	must(err)
	secured.Secure(sessions)
	run(secured.Run)
	stream, err := coap.NewStream(coap.StreamConfig{}, 4, handler, log)
	must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	run(stream.Run)
	context.AfterFunc(ctx, func() { listener.Close() })
	running.Go(func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			running.Go(func() { stream.Serve(conn, nil) })
		}
	})
	return &coapServer{plain.LocalAddr().String(), secure.LocalAddr().String(), listener.Addr().String()}
}

func TestCoAPDevices(t *testing.T) {
	var mu sync.Mutex
	registered := map[string]bool{} // queries
	devices := Plan(Size{CoAP: 13}, 1)
	keys := map[string][]byte{}
	withToken, without := 0, 0
	for _, d := range devices {
		if d.Transport == DTLS {
			keys[d.ID] = []byte("key-of-" + d.ID)
		}
	}
	server := serveCoAP(t, keys, coap.Waiting(func(_ context.Context, request *coap.Request, response *coap.Response) {
		token, with := request.Option(optionCredential)
		mu.Lock()
		defer mu.Unlock()
		if with {
			withToken++
		} else {
			without++
		}
		switch {
		case strings.HasPrefix(string(token), "fgd_"):
			response.Code = coap.Unauthorized
		case strings.HasPrefix(request.Path(), "/debug"):
			response.Code = coap.NotFound
		case request.Path() == "/rd":
			registered[request.Query()] = strings.Contains(string(request.Body), "</time>")
			response.Code = coap.Created
		case request.Code == coap.POST:
			response.Code = coap.Changed
		default:
			response.Code = coap.Content
		}
	}))
	fleet := run(t, Config{CoAP: server.udp, CoAPS: server.dtls, CoAPTCP: server.tcp, Devices: devices, Tokens: tokens(devices), Keys: keys, Seed: 1}, func(f *Fleet) bool {
		seen, verdicts := map[Transport]bool{}, map[string]bool{}
		for _, report := range f.Reports() {
			if report.Counts.Passed > 0 {
				seen[report.Device.Transport] = true
			}
			for text := range report.Verdicts {
				verdicts[text] = true
			}
		}
		mu.Lock()
		defer mu.Unlock()
		c := f.Totals(CoAP)
		return c.Passed > 50 && c.Refused > 5 && len(seen) == 3 && len(registered) == 2 && withToken > 0 && without > 0 &&
			verdicts["2.01"] && verdicts["2.04"] && verdicts["2.05"] && verdicts["4.01"] && verdicts["4.04"]
	})
	mu.Lock() // what was cut off by the end may still be answered
	defer mu.Unlock()
	seen := map[string]uint64{}
	for _, report := range fleet.Reports() {
		for text, n := range report.Verdicts {
			seen[text] += n
		}
	}
	delete(seen, "no session") // which a slow machine has
	delete(seen, "no answer")
	if seen["2.01"] == 0 || seen["2.04"] == 0 || seen["2.05"] == 0 || seen["4.01"] == 0 || seen["4.04"] == 0 || len(seen) != 5 {
		t.Errorf("verdicts %v", seen)
	}
	if !registered["lt=3600"] || !registered["lt=3600&Q"] {
		t.Errorf("registrations %v", registered)
	}
	if withToken == 0 || without == 0 {
		t.Errorf("%d requests had a token, %d had none: those over DTLS need none", withToken, without)
	}
}

// A lamp that has registered answers what the gateway asks it.
func TestALampIsAsked(t *testing.T) {
	lamps := Plan(Size{CoAP: 9}, 1)[8:]
	if lamps[0].Product != Lamp || lamps[0].Behaviour != Sleeper {
		t.Fatalf("%+v", lamps)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan netip.AddrPort, 100)
	gateway, err := coap.NewUDP(conn, coap.Config{}, 4, func(request *coap.Request, response *coap.Response) func(context.Context) {
		response.Code = coap.Created
		came <- request.Peer
		return nil
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gateway.Run(running) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	fleet := run(t, Config{CoAP: conn.LocalAddr().String(), Devices: lamps, Tokens: tokens(lamps), Seed: 1}, func(f *Fleet) bool {
		peer := <-came
		for _, ask := range []struct {
			method           coap.Code
			path, body, want string
		}{
			{coap.PUT, "/example_data", "hello", "2.04"},
			{coap.GET, "/example_data", "", "2.05hello"},
			{coap.DELETE, "/time", "", "4.05"},
			{coap.GET, "/nothing", "", "4.04"},
		} {
			call := newCall(ask.method, ask.path, "")
			call.Body = []byte(ask.body)
			reply, err := gateway.Do(t.Context(), peer, call)
			if err != nil || reply.Code.String()+string(reply.Body) != ask.want {
				t.Errorf("%v %s: %+v %v, not %s", ask.method, ask.path, reply, err, ask.want)
			}
		}
		return true
	})
	if got := fleet.Totals(CoAP).Received; got != 4 {
		t.Errorf("it counts %d questions", got)
	}
}

// mosquitto is a real broker that knows one password for all.
func mosquitto(t *testing.T, devices []Device) (address string) {
	t.Helper()
	address = port.Free(t)
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
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address
		}
	}
	t.Fatal("mosquitto does not listen")
	return ""
}

func TestMQTTDevicesAtMosquitto(t *testing.T) {
	devices := Plan(Size{MQTT: 12}, 1)
	fleet := run(t, Config{MQTT: mosquitto(t, devices), Devices: devices, Tokens: tokens(devices), Seed: 1}, func(f *Fleet) bool {
		c := f.Totals(MQTT)
		for _, report := range f.Reports() { // each has had its turn, and its way
			switch {
			case report.Device.Behaviour == WrongKey, report.Device.Product == Legacy:
				if report.Counts.Refused == 0 {
					return false
				}
			case report.Device.Behaviour == Regular && report.Counts.Passed == 0,
				report.Device.Behaviour == Impersonator && report.Verdicts["not authorized (0x87)"] == 0:
				return false
			}
		}
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
