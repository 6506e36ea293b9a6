package test

import (
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fieldgate/test/output"
	"fieldgate/test/port"
)

// libcoapServer is coap-server of libcoap: what is put there it has, and notifies.
type libcoapServer struct {
	address string
	log     *output.Buffer
}

func newLibcoapServer(t *testing.T) *libcoapServer {
	t.Helper()
	s := &libcoapServer{port.Free(t), new(output.Buffer)}
	host, number, _ := net.SplitHostPort(s.address)
	server := exec.Command("stdbuf", "-oL", "coap-server-notls", "-v", "7", "-A", host, "-p", number, "-d", "100")
	server.Stdout, server.Stderr = s.log, s.log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	wait(t, "coap-server to answer", func() bool {
		out, err := tool(t, "coap-client-notls", "-B", "1", s.url("/time"))
		return err == nil && len(out) > 0
	})
	return s
}

func (s *libcoapServer) url(path string) string { return "coap://" + s.address + path }

func (s *libcoapServer) put(t *testing.T, path, text string) {
	t.Helper()
	mustTool(t, "coap-client-notls", "-B", "60", "-m", "put", "-t", "0", "-e", text, s.url(path))
}

// asked counts the requests for a resource that have an option. The server shows the one that registered again for each notification, and
// one that is repeated, as the server was slow, as often as it comes: as it is, with its message ID.
func (s *libcoapServer) asked(option, segment string) int {
	own := false
	requests := make(map[string]bool)
	for line := range strings.Lines(s.log.String()) {
		if !own && strings.Contains(line, "c:GET") && strings.Contains(line, option) && strings.Contains(line, "Uri-Path:"+segment) {
			requests[line[strings.Index(line, "c:GET"):]] = true
		}
		own = strings.Contains(line, "presented to app")
	}
	return len(requests)
}

const roomsContract = `openapi: 3.1.0
info: {title: Rooms, version: 1.%d.0}
x-fieldgate: {api: rooms, upstreams: {building: {ref: env/building}}}
security: [{token: []}]
paths:
  /rooms/{room}:
    get:
      operationId: hear
      parameters: [{name: room, in: path, required: true, schema: {type: string}}]
      x-fieldgate: {upstream: building, observe-service: %t, access: [app]}
      x-fieldgate-bindings: {coap: {observe: true}, mqtt: {topic: 'rooms/{room}', action: subscribe}}
      responses: {'200': {description: ok, content: {text/plain: {}}}}
components: {securitySchemes: {token: {type: http, scheme: bearer}}}
`

// A resource of a service that speaks CoAP is heard over MQTT, server-sent events and CoAP by one observation, which ends with the last of those
// that hear it. The MQTT client was there before the contract said that it is observed.
func TestOneObservationForAllProtocols(t *testing.T) {
	t.Parallel() // it mostly waits
	service := newLibcoapServer(t)
	service.put(t, "/rooms/7", "20 degrees")
	n := newNode(t, map[string]string{"building": "coap://" + service.address})
	n.start()
	n.run("api", "publish", writeDocument(t, "rooms.yaml", fmt.Sprintf(roomsContract, 0, false)))
	app := n.run("app", "add", "wall", "--quiet")
	host, number, _ := net.SplitHostPort(n.mqtt)
	subscriber := listen(t, "mosquitto_sub", "-V", "mqttv5", "-h", host, "-p", number, "-u", "wall", "-P", app, "-d", "-t", "rooms/7")
	subscriber.hears("Subscribed")
	n.run("api", "publish", writeDocument(t, "rooms.yaml", fmt.Sprintf(roomsContract, 1, true)))
	subscriber.hears("20 degrees")
	service.put(t, "/rooms/7", "21 degrees")
	subscriber.hears("21 degrees")

	stream := listen(t, "curl", "-sSN", "-H", "Accept: text/event-stream", "-H", "Authorization: Bearer "+app, "http://"+n.http+"/rooms/7")
	tokenFile := filepath.Join(n.folder, "app.token")
	if err := os.WriteFile(tokenFile, []byte(app), 0o600); err != nil {
		t.Fatal(err)
	}
	observer := listen(t, build(t), "coap", "observe", "coap://"+n.coap+"/rooms/7", "--count", "3", "--token-file", tokenFile) // then it leaves
	for _, l := range []*listener{stream, observer} {
		l.hears("21 degrees") // what was said last
	}
	for _, text := range []string{"22 degrees", "23 degrees"} {
		service.put(t, "/rooms/7", text)
		for _, l := range []*listener{subscriber, stream, observer} {
			l.hears(text)
		}
	}
	if got := mustTool(t, "curl", "-sSf", "-H", "Authorization: Bearer "+app, "http://"+n.http+"/rooms/7"); got != "23 degrees" {
		t.Error(got)
	}
	if registered, read := service.asked("Observe:0", "7"), service.asked("Uri-Path:rooms", "7"); registered != 1 || read != 1 {
		t.Errorf("the service was asked %d times, to register %d times; want once\n%s", read, registered, service.log)
	}
	subscriber.stop()
	service.put(t, "/rooms/7", "24 degrees")
	stream.hears("24 degrees")
	if ended := service.asked("Observe:1", "7"); ended != 0 {
		t.Errorf("the observation has ended while somebody hears it\n%s", service.log)
	}
	stream.stop()
	wait(t, "the observation to end", func() bool { return service.asked("Observe:1", "7") == 1 })
}

// The on-ramp lets any path through to a service, with bodies of 1 MiB in both directions, whether it speaks CoAP or HTTP.
func TestOnRampLargeBodies(t *testing.T) {
	t.Parallel() // it mostly waits
	behind := newLibcoapServer(t)
	web := httptest.NewServer(&store{bodies: make(map[string][]byte)})
	t.Cleanup(web.Close)
	for _, service := range []string{"coap://" + behind.address, web.URL} {
		scheme, _, _ := strings.Cut(service, ":")
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, nil)
			ramp := port.Free(t)
			n.extend("coap: {on-ramp: {listen: '%s', upstream: '%s'}}", ramp, service)
			n.start()
			folder := t.TempDir()
			up, down := filepath.Join(folder, "up"), filepath.Join(folder, "down")
			body := bytesOf(1 << 20)
			if err := os.WriteFile(up, body, 0o600); err != nil {
				t.Fatal(err)
			}
			url := "coap://" + ramp + "/firmware/large"
			mustTool(t, "coap-client-notls", "-B", "55", "-m", "put", "-t", "42", "-b", "1024", "-f", up, url)
			mustTool(t, "coap-client-notls", "-B", "55", "-N", "-m", "get", "-b", "1024", "-o", down, url) // of a separate response to CON it takes one block only
			if got, err := os.ReadFile(down); err != nil || !same(got, body) {
				t.Errorf("%v; %d bytes came of %d, or they differ", err, len(got), len(body))
			}
			wait(t, "the records", func() bool {
				count := 0
				for _, r := range n.records("") {
					if r.API == "coap.on-ramp" && r.Status/100 == 2 {
						count++
					}
				}
				return count == 2
			})
		})
	}
}
