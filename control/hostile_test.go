package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/access"
)

// PostgreSQL takes no text that is not UTF-8 or holds U+0000: nobody can have it fail by an address or a cursor.
func TestAddressesThatAreNoText(t *testing.T) {
	n := start(t, socketDirectory(t))
	for _, address := range []string{"GET /api/v1/operators/%00", "GET /api/v1/devices/%ff", "GET /api/v1/apis/%c3%28", "GET /api/v1/apis/x/versions/%00/document",
		"DELETE /api/v1/sessions/%00", "DELETE /api/v1/tokens/%ff", "POST /api/v1/devices/%00/revoke", "GET /api/v1/operators?filter=%00", "GET /api/v1/operators?filter=%ff",
		"GET /api/v1/operators?cursor=%ff", "POST /api/v1/apis/%ff/versions/1/retire", "GET /%ff/api/v1"} {
		method, path, _ := strings.Cut(address, " ")
		if got := n.request(t, method, path, n.token, ""); got.status != 400 && got.status != 404 {
			t.Errorf("%s: %+v", address, got)
		}
	}
}

// What a capture caught is for who may capture, by whatever path; the exchange itself is for everybody.
func TestPayloadsAreForWhoMayCapture(t *testing.T) {
	n := start(t, socketDirectory(t))
	ana := n.claim(t)
	auditor, developer, operator := ana.join("aud", access.RoleAuditor), ana.join("dev", access.RoleDeveloper), ana.join("ops", access.RoleOperator)
	var capture api.Capture
	operator.want(201, "POST", "/api/v1/captures", `{"seconds":60}`, &capture)
	n.send(t, 1, 1)
	caught, err := json.Marshal(fieldgate.Captured{Capture: capture.Id, Node: "n1", Instance: "n1-1-1", Record: fieldgate.Record{Time: time.Now()},
		Path: "/telemetry", Request: fieldgate.CapturedContent{Data: []byte("what it carried"), Bytes: 15}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.bus.Publish(fieldgate.SubjectCaptured, caught); err != nil {
		t.Fatal(err)
	}
	for { // until both are here; a test that hangs is ended
		var detail api.ExchangeDetail
		if operator.send("GET", "/api/v1/traffic/exchanges/n1-1-1", "", &detail) == 200 && detail.Captured != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for name, b := range map[string]*browser{"auditor": auditor, "developer": developer} {
		var detail api.ExchangeDetail
		b.want(200, "GET", "/api/v1/traffic/exchanges/n1-1-1", "", &detail)
		if detail.Captured != nil {
			t.Errorf("the %s is shown %s", name, detail.Captured.Request.Body)
		}
		b.want(403, "GET", "/api/v1/captures/"+capture.Id, "", nil)
	}
}

// An import is a request that lasts: it ends when its sender no longer may, even one that waits for a line.
func TestImportEndsWithItsSender(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, mode := range []string{"good", "all"} {
		n := start(t, socketDirectory(t))
		ana := n.claim(t)
		mallory := ana.join("mallory", access.RoleOperator)
		var token api.TokenWithSecret
		mallory.want(201, "POST", "/api/v1/tokens", `{"name":"import","scopes":["devices.write"]}`, &token)
		// Not package http's client: it may wait for a line to send before it says that the connection was closed.
		connection, err := net.Dial("tcp", n.control.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		connection.SetDeadline(time.Now().Add(time.Minute))
		line := "{\"id\":\"m1\"}\n"
		fmt.Fprintf(connection, "POST /api/v1/imports/devices?mode=%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\n"+
			"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", mode, n.control.Address(), token.Secret, len(line), line)
		for begun := false; !begun; time.Sleep(10 * time.Millisecond) { // a test that hangs is ended
			var tokens api.TokenPage
			mallory.want(200, "GET", "/api/v1/tokens", "", &tokens)
			begun = !tokens.Items[0].UsedAt.IsZero()
		}
		ana.want(200, "PATCH", "/api/v1/operators/mallory", `{"disabled":true}`, nil)
		answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Error(err)
		}
		if !bytes.Contains(all, []byte("no longer may")) || !bytes.Contains(all, []byte(`"applied":false`)) {
			t.Errorf("%s: %s", mode, all)
		}
		ana.want(404, "GET", "/api/v1/devices/m1", "", nil)
	}
}

// The refusal of a decision about something that has changed shows who changed it, and to who may see the audit, from where.
func TestChangesAreShownAsFarAsTheAuditMayBeSeen(t *testing.T) {
	n := start(t, socketDirectory(t))
	ana := n.claim(t)
	ana.want(201, "POST", "/api/v1/apps", `{"id":"dash","name":"","scopes":[]}`, nil)
	for role, may := range map[access.Role]bool{access.RoleDeveloper: false, access.RoleOperator: true} {
		b := ana.join("the-"+string(role), role)
		b.header.Set("If-Match", `"999"`)
		var problem api.Problem
		if status := b.send("PATCH", "/api/v1/apps/dash", `{"name":"x"}`, &problem); status != 412 || len(problem.Changes) == 0 {
			t.Fatalf("%d %+v", status, problem)
		}
		change := problem.Changes[0]
		if change.Actor != "ana" || (change.Source != "") != may || (change.Via != "") != may {
			t.Errorf("the %s is shown %+v", role, change)
		}
	}
}

// One operator cannot take all places for listeners from the others.
func TestStreamsOfOneOperatorAreBounded(t *testing.T) {
	n := start(t, socketDirectory(t))
	ana := n.claim(t)
	open := func(token string) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.control.Address()+"/api/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return response
	}
	var greedy api.TokenWithSecret
	ana.join("greedy", access.RoleAuditor).want(201, "POST", "/api/v1/tokens", `{"name":"x","scopes":["read"]}`, &greedy)
	var streams []*http.Response
	for {
		response := open(greedy.Secret)
		if response.StatusCode == 503 {
			break
		}
		if streams = append(streams, response); response.StatusCode != 200 || len(streams) > 100 {
			t.Fatalf("%d after %d streams", response.StatusCode, len(streams))
		}
	}
	if response := open(n.token); response.StatusCode != 200 {
		t.Errorf("another operator: %d after %d streams", response.StatusCode, len(streams))
	}
	streams[0].Body.Close()
	for open(greedy.Secret).StatusCode != 200 { // until the place is free; a test that hangs is ended
		time.Sleep(10 * time.Millisecond)
	}
}
