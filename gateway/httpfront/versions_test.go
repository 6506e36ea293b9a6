package httpfront

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"fieldgate"
)

// An exchange is the same in all versions of HTTP.
func TestVersions(t *testing.T) {
	for _, version := range []struct {
		via    string
		major  int
		scheme string
		client func(testing.TB, *gateway) (*http.Client, string)
	}{
		{"1.1", 1, "http", func(t testing.TB, g *gateway) (*http.Client, string) {
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			return &http.Client{Transport: transport}, "http://" + g.address
		}},
		{"2", 2, "http", newH2},
		{"3", 3, "https", func(t testing.TB, g *gateway) (*http.Client, string) { return g.serveH3(t) }},
	} {
		t.Run(version.via, func(t *testing.T) {
			g := newGateway(t, newService(t), nil)
			client, url := version.client(t, g)
			do := func(method, path, body string, fields ...string) *http.Response {
				t.Helper()
				r, err := http.NewRequest(method, url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body != "" {
					r.Body = io.NopCloser(strings.NewReader(body)) // of unknown length
				}
				for i := 0; i < len(fields); i += 2 {
					r.Header.Set(fields[i], fields[i+1])
				}
				answer, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { answer.Body.Close() })
				return answer
			}
			read := func(answer *http.Response) (got seen) {
				t.Helper()
				if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
					t.Fatal(err)
				}
				return got
			}
			t.Run("relayed", func(t *testing.T) {
				answer := do("GET", "/items/1?a=b", "")
				got := read(answer)
				if answer.StatusCode != 200 || answer.ProtoMajor != version.major || answer.Header.Get("X-Upstream") != "yes" || got.Target != "/items/1?a=b" ||
					len(got.Encoding) != 0 || got.Fields["Via"] != version.via+" fieldgate" || got.Fields["X-Forwarded-Proto"] != version.scheme ||
					got.Fields["X-Forwarded-For"] != "127.0.0.1" {
					t.Errorf("%v %+v", answer, got)
				}
				if record := g.records.next(t, 0); record.Status != 200 || record.Operation != "getItem" || record.Protocol != fieldgate.ProtocolHTTP ||
					record.Source.String() != "127.0.0.1" {
					t.Errorf("%+v", record)
				}
			})
			t.Run("content of unknown length", func(t *testing.T) {
				content := strings.Repeat("0123456789", 50_000)
				if got := read(do("PUT", "/items/1", content)); got.Content != content || len(got.Encoding) != 1 {
					t.Errorf("%d bytes, %v", len(got.Content), got.Encoding)
				}
			})
			t.Run("checked", func(t *testing.T) {
				answer := do("POST", "/devices/thermo-1/telemetry", `{"temp":"warm"}`, "Authorization", "Bearer "+g.token, "Content-Type", "application/json")
				if answer.StatusCode != 422 || answer.Header.Get("Content-Type") != fieldgate.ProblemMediaType {
					t.Errorf("%v", answer)
				}
			})
			t.Run("unreachable", func(t *testing.T) {
				if answer := do("GET", "/dead", ""); answer.StatusCode != fieldgate.ProblemUpstreamUnreachable.Status() {
					t.Errorf("%v", answer)
				}
			})
			t.Run("HEAD", func(t *testing.T) {
				answer := do("HEAD", "/mock", "")
				if content, err := io.ReadAll(answer.Body); err != nil || len(content) != 0 {
					t.Errorf("%v %q %v", answer, content, err)
				}
			})
			t.Run("events, until the device is revoked", func(t *testing.T) {
				answer := do("GET", "/events/thermo-1", "", "Authorization", "Bearer "+g.token, "Accept", "text/event-stream")
				g.waitForStreams(t, 1)
				g.publish("d/thermo-1/t", "hot", false)
				lines := bufio.NewScanner(answer.Body)
				for lines.Scan() && lines.Text() != "data: hot" {
				}
				if lines.Text() != "data: hot" {
					t.Fatalf("%q, %v", lines.Text(), lines.Err())
				}
				g.revoke(t)
				for lines.Scan() { // until it ends
				}
				if lines.Err() != nil { // which is clean
					t.Error(lines.Err())
				}
			})
			if n := g.Stats().Connections; version.major > 1 && n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}
