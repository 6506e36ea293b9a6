package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate/api"
	"fieldgate/api/client"
)

func problemOf(t *testing.T, err error) *api.Problem {
	t.Helper()
	problem := new(api.Problem)
	if !errors.As(err, &problem) {
		t.Fatalf("no problem: %v", err)
	}
	return problem
}

// Two operators edit one device: the second is told how it is now, and who changed it.
func TestTwoOperatorsEditOneDevice(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	added, err := n.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: "d1", Model: "T1"})
	if err != nil {
		t.Fatal(err)
	}
	seen := added.HTTPResponse.Header.Get("ETag")
	read, err := n.GetDeviceWithResponse(ctx, "d1")
	if err != nil || read.HTTPResponse.Header.Get("ETag") != seen {
		t.Fatalf("%q %v", seen, err)
	}
	one, other := "T2", "T3"
	first, err := n.UpdateDeviceWithResponse(ctx, "d1", &api.UpdateDeviceParams{IfMatch: seen}, api.DeviceUpdate{Model: &one})
	if err != nil || first.HTTPResponse.Header.Get("ETag") == seen {
		t.Fatalf("%v", err)
	}
	_, err = n.UpdateDeviceWithResponse(ctx, "d1", &api.UpdateDeviceParams{IfMatch: seen}, api.DeviceUpdate{Model: &other})
	problem := problemOf(t, err)
	if problem.Status != 412 || problem.Current["model"] != "T2" || len(problem.Changes) == 0 || problem.Changes[0].Action != "device.update" ||
		problem.Changes[0].Before["model"] != "T1" || problem.Changes[0].After["model"] != "T2" {
		t.Fatalf("%+v", problem)
	}
	for _, decide := range []func() error{
		func() error {
			_, err := n.RevokeDeviceWithResponse(ctx, "d1", &api.RevokeDeviceParams{IfMatch: seen}, api.Reason{})
			return err
		},
		func() error {
			_, err := n.IssueDeviceTokenWithResponse(ctx, "d1", &api.IssueDeviceTokenParams{IfMatch: seen})
			return err
		},
	} {
		if problem := problemOf(t, decide()); problem.Status != 412 {
			t.Errorf("%+v", problem)
		}
	}
	if kept, err := n.GetDeviceWithResponse(ctx, "d1"); err != nil || kept.JSON200.Model != "T2" || kept.JSON200.State != api.PrincipalStateActive || kept.JSON200.Tokens != 1 {
		t.Fatalf("%v", err)
	}
	// What names the present state goes through, and so does what names none.
	if _, err := n.UpdateDeviceWithResponse(ctx, "d1", &api.UpdateDeviceParams{IfMatch: first.HTTPResponse.Header.Get("ETag")}, api.DeviceUpdate{Model: &other}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.UpdateDeviceWithResponse(ctx, "d1", nil, api.DeviceUpdate{Model: &one}); err != nil {
		t.Fatal(err)
	}
}

func TestTwoOperatorsEditOneAPI(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	n.publish(t, thermo)
	read, err := n.GetApiWithResponse(ctx, "thermo")
	if err != nil {
		t.Fatal(err)
	}
	seen := read.HTTPResponse.Header.Get("ETag")
	if _, err := n.DeprecateVersionWithResponse(ctx, "thermo", "2.4.0", &api.DeprecateVersionParams{IfMatch: seen}, api.Deprecation{}); err != nil {
		t.Fatal(err)
	}
	_, err = n.RetireVersionWithResponse(ctx, "thermo", "2.4.0", &api.RetireVersionParams{IfMatch: seen})
	problem := problemOf(t, err)
	if problem.Status != 412 || problem.Current["name"] != "thermo" || len(problem.Changes) != 2 || problem.Changes[0].Action != "api.deprecate" {
		t.Fatalf("%+v", problem)
	}
	_, err = n.PublishApiWithBodyWithResponse(ctx, &api.PublishApiParams{IfMatch: seen}, "application/yaml", strings.NewReader(strings.Replace(thermo, "2.4.0", "2.5.0", 1)))
	if problem := problemOf(t, err); problem.Status != 412 || problem.Current == nil {
		t.Fatalf("%+v", problem)
	}
}

// A request that is sent again with its key is answered as the first time, token and all.
func TestSendingAgain(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	key := &api.AddDeviceParams{IdempotencyKey: "0123456789abcdef"}
	first, err := n.AddDeviceWithResponse(ctx, key, api.NewDevice{Id: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := n.AddDeviceWithResponse(ctx, key, api.NewDevice{Id: "d1"})
	if err != nil || !bytes.Equal(again.Body, first.Body) || again.StatusCode() != 201 || again.HTTPResponse.Header.Get("ETag") != first.HTTPResponse.Header.Get("ETag") {
		t.Fatalf("%s %v", again.Body, err)
	}
	_, err = n.AddDeviceWithResponse(ctx, key, api.NewDevice{Id: "d2"})
	if problem := problemOf(t, err); problem.Status != 422 || !strings.HasSuffix(problem.Type, "reused-key") {
		t.Fatalf("%+v", problem)
	}
	for _, short := range []string{"short", strings.Repeat("x", 129), "sixteen bytes\twith"} {
		_, err := n.AddDeviceWithResponse(ctx, &api.AddDeviceParams{IdempotencyKey: short}, api.NewDevice{Id: "d3"})
		if problem := problemOf(t, err); problem.Status != 400 {
			t.Errorf("%q: %+v", short, problem)
		}
	}
	token := &api.IssueDeviceTokenParams{IdempotencyKey: "another-key-of-mine"}
	one, err := n.IssueDeviceTokenWithResponse(ctx, "d1", token)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := n.IssueDeviceTokenWithResponse(ctx, "d1", token); err != nil || two.JSON200.Token != one.JSON200.Token {
		t.Fatalf("%v", err)
	}
	// A refusal is not kept: what was in the way may be gone.
	blocked := &api.AddAppParams{IdempotencyKey: "a-key-for-an-app-1"}
	if _, err := n.AddAppWithResponse(ctx, blocked, api.NewApp{Id: "a/b"}); status(err) != 400 {
		t.Fatalf("%v", err)
	}
	// However often and at once it is sent, it is done once.
	var group sync.WaitGroup
	var mu sync.Mutex
	tokens, refused := map[string]bool{}, 0
	for range 20 {
		group.Go(func() {
			answer, err := n.AddAppWithResponse(ctx, &api.AddAppParams{IdempotencyKey: "a-key-for-an-app-2"}, api.NewApp{Id: "dash"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				tokens[answer.JSON201.Key] = true
			case status(err) == 409:
				refused++
			default:
				t.Errorf("%v", err)
			}
		})
	}
	group.Wait()
	if len(tokens) != 1 {
		t.Fatalf("%d keys, %d refused", len(tokens), refused)
	}
	answer, err := n.AddAppWithResponse(ctx, &api.AddAppParams{IdempotencyKey: "a-key-for-an-app-2"}, api.NewApp{Id: "dash"})
	if err != nil || !tokens[answer.JSON201.Key] {
		t.Fatalf("%v", err)
	}
}

func (n *node) importLines(t *testing.T, mode api.ImportDevicesParamsMode, lines io.Reader) (all []api.ImportLine) {
	t.Helper()
	answer, err := n.ImportDevicesWithBody(t.Context(), &api.ImportDevicesParams{Mode: mode}, "application/x-ndjson", lines)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	results := bufio.NewScanner(answer.Body)
	for results.Scan() {
		var line api.ImportLine
		if err := json.Unmarshal(results.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
	if err := results.Err(); err != nil || len(all) == 0 || !all[len(all)-1].Done {
		t.Fatalf("%d lines, %v", len(all), err)
	}
	return all
}

// Of an import with three bad lines, all or the good ones are registered, by choice; the bad ones are told by their numbers.
func TestImportWithBadLines(t *testing.T) {
	t.Parallel()
	n := start(t, socketDirectory(t))
	const good = 2_400 // several portions
	var lines bytes.Buffer
	for i := range good {
		fmt.Fprintf(&lines, "{\"id\":\"d%d\"}\n", i)
		if i%1000 == 299 {
			lines.WriteString("no device\n")
		}
	}
	bad := func(all []api.ImportLine) (numbers []int) {
		for _, line := range all {
			if line.Problem != nil {
				numbers = append(numbers, line.Line)
			}
		}
		return numbers
	}
	all := n.importLines(t, api.ImportAll, bytes.NewReader(lines.Bytes()))
	last := all[len(all)-1]
	if got := fmt.Sprint(bad(all)); got != "[301 1302 2303]" || *last.Applied || last.Added != 0 || last.Refused != 3 || last.Lines != good+3 {
		t.Fatalf("%s %+v", got, last)
	}
	if list, err := n.ListDevicesWithResponse(t.Context(), nil); err != nil || len(list.JSON200.Items) != 0 {
		t.Fatalf("%v", err)
	}
	repaired := strings.NewReader(strings.ReplaceAll(lines.String(), "no device\n", ""))
	all = n.importLines(t, api.ImportAll, repaired)
	last = all[len(all)-1]
	if !*last.Applied || last.Added != good || last.Refused != 0 {
		t.Fatalf("%+v", last)
	}
	all = n.importLines(t, api.ImportGood, strings.NewReader("{\"id\":\"d1\"}\n\n{\"id\":\"e1\"}\n"))
	last = all[len(all)-1]
	if fmt.Sprint(bad(all)) != "[1]" || !*last.Applied || last.Added != 1 || last.Refused != 1 || all[1].Line != 3 && all[0].Line != 3 {
		t.Fatalf("%+v", all)
	}
}

// Whatever stands in a filter, it is text: nothing breaks out of it, and what is not understood is explained.
func TestHostileFilters(t *testing.T) {
	n := start(t, socketDirectory(t))
	if _, err := n.AddDeviceWithResponse(t.Context(), nil, api.NewDevice{Id: "d1", Model: "T1"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"devices", "apps", "apis", "audit", "operators", "tokens", "findings", "traffic", "traffic/undocumented", "traffic/undocumented/draft"} {
		for _, text := range []string{`'; DROP TABLE principal; --`, `"' OR '1'='1"`, `x" OR 1=1`, `id:%`, `id:"\"`, "size(request.auth) > 0 || true", "model:日本*,ü", "%00", "a%00b",
			"model:%ff", strings.Repeat("-x%20", 40), "since:99999999999999d", "state:active,,", "id:*", "\U0010FFFF*", "%F4%8F%BF%BF*", strings.Repeat("x", 1025), "(((((("} {
			got := n.get(t, "/api/v1/"+path+"?filter="+strings.NewReplacer(" ", "%20", `"`, "%22", "#", "%23", ";", "%3B", "+", "%2B", "&", "%26").Replace(text), n.token)
			if got.status != 200 && got.status != 400 {
				t.Errorf("%s with %q: %d %s", path, text, got.status, got.body)
			}
			if path == "devices" && got.status == 200 && strings.Contains(text, "OR") && strings.Contains(got.body, `"d1"`) {
				t.Errorf("%q selects what it does not name", text)
			}
		}
	}
	if _, err := n.GetDeviceWithResponse(t.Context(), "d1"); err != nil {
		t.Fatal(err)
	}
}

// An event stream begins with the state of things, and tells of each decision.
func TestEvents(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n := start(t, socketDirectory(t))
	stream, err := n.StreamEvents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	seen, enough := map[string]int{}, errors.New("enough")
	err = client.ReadEvents(stream.Body, func(event string, data []byte) error {
		seen[event]++
		if event == "changed" {
			var change api.Change
			if err := json.Unmarshal(data, &change); err != nil || change.Action != "device.add" || !strings.HasPrefix(change.Target, "d") {
				t.Errorf("%s %v", data, err)
			}
		}
		if event == "live" { // the feed of decisions may begin only now
			if _, err := n.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: fmt.Sprint("d", seen["live"])}); err != nil {
				return err
			}
		}
		if seen["health"] > 0 && seen["live"] > 1 && seen["changed"] > 0 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("%v %v", seen, err)
	}
}

// The admin API is an entry of the inventory, and nobody can take its place.
func TestOwnAPI(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	shown, err := n.GetApiWithResponse(ctx, "fieldgate")
	if err != nil || !shown.JSON200.BuiltIn || len(shown.JSON200.Operations) < 50 {
		t.Fatalf("%v", err)
	}
	version := shown.JSON200.Versions[0].Version
	reference := n.get(t, "/api/v1/apis/fieldgate/versions/"+version+"/reference", n.token)
	if reference.status != 200 || !json.Valid([]byte(reference.body)) || !strings.Contains(reference.body, `"operationId":"listDevices"`) {
		t.Fatalf("%d %.300s", reference.status, reference.body)
	}
	if document := n.get(t, "/api/v1/apis/fieldgate/versions/"+version+"/document", n.token); document.body != string(api.Document) {
		t.Errorf("%d", document.status)
	}
	if _, err := n.RetireVersionWithResponse(ctx, "fieldgate", version, nil); status(err) != 409 {
		t.Errorf("%v", err)
	}
	_, err = n.PublishApiWithBodyWithResponse(ctx, nil, "application/yaml", strings.NewReader(strings.Replace(thermo, "title: Thermo", "title: Fieldgate", 1)))
	if status(err) != 409 {
		t.Errorf("%v", err)
	}
}

// A document that is far too large is refused before it is read.
func TestLargeUploadIsRefusedAtOnce(t *testing.T) {
	n := start(t, socketDirectory(t))
	sent := &counting{}
	request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+n.control.Address()+"/api/v1/apis", io.LimitReader(io.TeeReader(endless{}, sent), 50<<20))
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = 50 << 20
	request.Header.Set("Authorization", "Bearer "+n.token)
	request.Header.Set("Expect", "100-continue")
	answer, err := (&http.Transport{ExpectContinueTimeout: time.Minute}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != 413 || sent.bytes > 1<<20 {
		t.Fatalf("%d after %d bytes", answer.StatusCode, sent.bytes)
	}
}

type counting struct{ bytes int }

func (c *counting) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return len(p), nil
}

func TestReadiness(t *testing.T) {
	n := start(t, socketDirectory(t))
	if got := n.get(t, "/readyz", ""); got.status != 200 || !strings.Contains(got.body, `"ready":true`) || strings.Contains(got.body, "127.0.0.1") {
		t.Fatalf("%d %s", got.status, got.body)
	}
}

func TestTimelineFolds(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	for i := range 5 {
		if _, err := n.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: fmt.Sprint("d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	n.publish(t, thermo)
	timeline, err := n.GetTimelineWithResponse(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	items := timeline.JSON200.Items
	if len(items) < 2 || items[0].Action != "api.publish" || items[0].Api != "thermo" || !strings.HasSuffix(items[0].Text, "published thermo 2.4.0") ||
		items[1].Count != 5 || !strings.HasSuffix(items[1].Text, "registered 5 devices") {
		t.Fatalf("%s", timeline.Body)
	}
	first, err := n.GetTimelineWithResponse(ctx, &api.GetTimelineParams{Limit: 1})
	if err != nil || first.JSON200.Next == "" {
		t.Fatalf("%v", err)
	}
	second, err := n.GetTimelineWithResponse(ctx, &api.GetTimelineParams{Limit: 1, Cursor: first.JSON200.Next})
	if err != nil || second.JSON200.Items[0].Count != 5 {
		t.Fatalf("%s %v", second.Body, err)
	}
	if _, err := n.GetTimelineWithResponse(ctx, &api.GetTimelineParams{Since: "40d"}); status(err) != 400 {
		t.Errorf("%v", err)
	}
}
