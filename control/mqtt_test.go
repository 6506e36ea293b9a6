package control

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/audit"
	"fieldgate/engine/bus"
)

// mqttGateway plays the part of a gateway that knows MQTT, as gateway/inspect.go does; its pages hold two entries.
type mqttGateway struct {
	mu       sync.Mutex
	sessions []fieldgate.MQTTSession
	topics   []fieldgate.MQTTTopic
	retained []fieldgate.MQTTRetained
	asked    []fieldgate.MQTTQuestion
}

func (g *mqttGateway) answer(question []byte) (bus.Answer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var q fieldgate.MQTTQuestion
	if err := json.Unmarshal(question, &q); err != nil {
		return bus.Answer{}, err
	}
	g.asked = append(g.asked, q)
	var a fieldgate.MQTTAnswer
	switch {
	case q.Sessions != nil:
		a.Sessions, a.More = first(g.sessions, func(s *fieldgate.MQTTSession) bool { return s.Order() > q.Sessions.After })
	case q.Session != nil:
		a.Sessions, _ = first(g.sessions, func(s *fieldgate.MQTTSession) bool { return s.MQTTSessionKey == *q.Session })
	case q.Topics != nil:
		a.Topics, a.More = first(g.topics, func(t *fieldgate.MQTTTopic) bool { return q.Topics.After == nil || t.Level > *q.Topics.After })
		a.Counted = 5
	case q.Retained != nil:
		a.Retained, a.More = first(g.retained, func(r *fieldgate.MQTTRetained) bool { return r.Topic > q.Retained.After })
	case q.Message != "":
		a.Retained, _ = first(g.retained, func(r *fieldgate.MQTTRetained) bool { return r.Topic == q.Message })
		for i := range a.Retained {
			a.Retained[i].Content = &fieldgate.CapturedContent{Bytes: 3, JSON: json.RawMessage(`{"a":1}`)}
		}
	default: // a decision
		a.Done = true
	}
	data, err := json.Marshal(a)
	return bus.Answer{Data: data}, err
}

func first[T any](all []T, behind func(*T) bool) (list []T, more bool) {
	for i := range all {
		if behind(&all[i]) {
			if len(list) == 2 {
				return list, true
			}
			list = append(list, all[i])
		}
	}
	return list, false
}

func (g *mqttGateway) last() fieldgate.MQTTQuestion {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[len(g.asked)-1]
}

func (n *node) plays(t *testing.T, name string, g *mqttGateway) {
	t.Helper()
	stop, err := n.bus.Serve(fieldgate.SubjectMQTT+name, g.answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	n.say(t, fieldgate.GatewayState{Node: name, Epoch: 1})
}

func mqttSession(client, principal string, since time.Time, connected bool) fieldgate.MQTTSession {
	return fieldgate.MQTTSession{MQTTSessionKey: fieldgate.MQTTSessionKey{Kind: fieldgate.PrincipalDevice, Principal: principal, Client: client}, Connected: connected, Since: since, Queued: 2}
}

func TestMQTTOverHTTP(t *testing.T) {
	n := start(t, t.TempDir())
	ctx := t.Context()
	early, late := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	message := func(topic string, at time.Time) fieldgate.MQTTRetained {
		return fieldgate.MQTTRetained{MQTTMessage: fieldgate.MQTTMessage{Topic: topic, Bytes: 3, Time: at, Principal: "d1"}}
	}
	g1 := &mqttGateway{sessions: []fieldgate.MQTTSession{mqttSession("a", "d1", early, true), mqttSession("c", "d3", early, false), mqttSession("e", "d5", early, true)},
		topics:   []fieldgate.MQTTTopic{{Level: "", Rate: 1, Topics: 1}, {Level: "d", Rate: 2, Retained: 3, Topics: 4}, {Level: "x"}},
		retained: []fieldgate.MQTTRetained{message("d/1", early), message("d/3", early), message("d/4", early)}}
	g2 := &mqttGateway{sessions: []fieldgate.MQTTSession{mqttSession("b", "d2", late, true), mqttSession("c", "d3", late, true), mqttSession("d/ü", "d4", late, true)},
		topics:   []fieldgate.MQTTTopic{{Level: "d", Rate: 3, Retained: 5, Own: true}},
		retained: []fieldgate.MQTTRetained{message("d/1", late), message("d/2", late)}}
	n.plays(t, "g1", g1)
	n.plays(t, "g2", g2)
	n.say(t, fieldgate.GatewayState{Node: "g3", Epoch: 1}) // one of an older version, which answers no such question

	// All pages together are all sessions, each once, however the gateways share them out.
	var clients []string
	var id string
	for cursor, pages := "", 0; ; pages++ {
		page, err := n.ListMqttSessionsWithResponse(ctx, &api.ListMqttSessionsParams{Cursor: cursor, Limit: 2})
		if err != nil || pages > 9 || !slices.Equal(page.JSON200.Missing, []string{"g3"}) || len(page.JSON200.Items) > 2 {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, s := range page.JSON200.Items {
			clients = append(clients, s.Client+" "+s.Node)
			if s.Client == "d/ü" {
				id = s.Id
			}
		}
		if cursor = page.JSON200.Next; cursor == "" {
			break
		}
	}
	if got := strings.Join(clients, ","); got != "a g1,b g2,c g2,d/ü g2,e g1" {
		t.Error(got)
	}
	list, err := n.ListMqttSessionsWithResponse(ctx, &api.ListMqttSessionsParams{Filter: "-node:g1,g3 device:d4 state:conn*"})
	if err != nil || len(list.JSON200.Missing) != 0 || len(g2.last().Sessions.Terms) != 3 || g2.last().Sessions.Terms[1].Key != "principal" || g1.last().Sessions.Terms != nil {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := n.ListMqttSessionsWithResponse(ctx, &api.ListMqttSessionsParams{Filter: "color:red"}); status(err) != 400 {
		t.Error(err)
	}

	one, err := n.GetMqttSessionWithResponse(ctx, id)
	if err != nil || one.JSON200.Session.Client != "d/ü" || one.JSON200.Session.Principal != "d4" || !slices.Equal(one.JSON200.Missing, []string{"g3"}) {
		t.Errorf("%+v, %v", one, err)
	}
	for _, unknown := range []string{"x", "!", "ZGV2aWNl"} {
		if _, err := n.GetMqttSessionWithResponse(ctx, unknown); status(err) != 404 {
			t.Errorf("%s: %v", unknown, err)
		}
	}
	closed, err := n.DisconnectMqttSessionWithResponse(ctx, id, api.Reason{Reason: "a new key"})
	if q := g2.last(); err != nil || !slices.Equal(closed.JSON200.Nodes, []string{"g2"}) || q.Disconnect == nil || !q.Disconnect.Since.Equal(late) || q.Disconnect.Client != "d/ü" {
		t.Errorf("%+v, %v", closed, err)
	}
	ended, err := n.EndMqttSessionWithResponse(ctx, id, &api.EndMqttSessionParams{Reason: "gone"})
	if err != nil || !slices.Equal(ended.JSON200.Nodes, []string{"g1", "g2"}) || !slices.Equal(ended.JSON200.Missing, []string{"g3"}) || g2.last().End == nil {
		t.Errorf("%+v, %v", ended, err)
	}

	topics, err := n.ListTopicsWithResponse(ctx, &api.ListTopicsParams{Limit: 2})
	if err != nil || len(topics.JSON200.Items) != 2 || topics.JSON200.Next == "" || topics.JSON200.CountedSeconds != 5 {
		t.Fatalf("%+v, %v", topics, err)
	}
	if d := topics.JSON200.Items[1]; d.Level != "d" || d.PerSecond != 5 || d.Retained != 5 || d.Below != 4 || !d.Published {
		t.Errorf("%+v", d)
	}
	rest, err := n.ListTopicsWithResponse(ctx, &api.ListTopicsParams{Limit: 2, Cursor: topics.JSON200.Next})
	if err != nil || len(rest.JSON200.Items) != 1 || rest.JSON200.Items[0].Level != "x" || rest.JSON200.Next != "" {
		t.Errorf("%+v, %v", rest, err)
	}
	if _, err := n.ListTopicsWithResponse(ctx, &api.ListTopicsParams{Prefix: "d"}); status(err) != 400 {
		t.Error(err)
	}

	var retained []string
	for cursor := ""; ; {
		page, err := n.ListRetainedWithResponse(ctx, &api.ListRetainedParams{Topic: "d/#", Cursor: cursor, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.JSON200.Items {
			retained = append(retained, fmt.Sprint(r.Topic, " ", r.Nodes, " ", r.PublishedAt.Equal(late)))
		}
		if cursor = page.JSON200.Next; cursor == "" {
			break
		}
	}
	if got := strings.Join(retained, ","); got != "d/1 [g1 g2] true,d/2 [g2] true,d/3 [g1] false,d/4 [g1] false" {
		t.Error(got)
	}
	shown, err := n.GetRetainedWithResponse(ctx, &api.GetRetainedParams{Topic: "d/1"})
	if err != nil || string(shown.JSON200.Content.Body) != `{"a":1}` || !shown.JSON200.Content.Json {
		t.Errorf("%+v, %v", shown, err)
	}
	if _, err := n.GetRetainedWithResponse(ctx, &api.GetRetainedParams{Topic: "none"}); status(err) != 404 || !strings.Contains(err.Error(), "g3") {
		t.Error(err)
	}
	if _, err := n.GetRetainedWithResponse(ctx, &api.GetRetainedParams{Topic: "d/+"}); status(err) != 400 {
		t.Error(err)
	}
	deleted, err := n.DeleteRetainedWithResponse(ctx, &api.DeleteRetainedParams{Topic: "d/1"})
	if err != nil || len(deleted.JSON200.Nodes) != 2 || g1.last().DeleteRetained != "d/1" {
		t.Errorf("%+v, %v", deleted, err)
	}

	var actions []string
	entries, err := audit.List(ctx, n.control.config.Store, audit.Filter{Limit: 4})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		actions = append(actions, e.Action+" "+e.Target+" "+e.Detail)
	}
	if got := strings.Join(actions, ","); got != "retained.delete d/1 ,retained.look d/1 ,mqtt-session.end d/ü gone,mqtt-session.disconnect d/ü a new key" {
		t.Error(got)
	}
}

func TestMessagesAreWatchedOverHTTP(t *testing.T) {
	n := start(t, t.TempDir())
	n.say(t, fieldgate.GatewayState{Node: "g1", Epoch: 1})
	n.say(t, fieldgate.GatewayState{Node: "g2", Epoch: 1})
	orders := make(chan fieldgate.MQTTWatch, 100)
	stop, err := n.bus.Subscribe(fieldgate.SubjectMQTTWatch, func(_ string, data []byte) {
		var order fieldgate.MQTTWatch
		if err := json.Unmarshal(data, &order); err != nil {
			t.Error(err)
		}
		heard, _ := json.Marshal(fieldgate.MQTTHeard{Node: "g1", LeftOut: 3, Messages: []fieldgate.MQTTHeardMessage{
			{MQTTMessage: fieldgate.MQTTMessage{Topic: "d/1", Principal: "d1"}, Content: fieldgate.CapturedContent{Data: []byte("hello")}}}})
		if err := n.bus.Publish(fieldgate.SubjectMQTTHeard+order.ID, heard); err != nil {
			t.Error(err)
		}
		orders <- order
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	open := func(topic string) *http.Response {
		t.Helper()
		request, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.control.Address()+"/api/v1/mqtt/messages/stream?topic="+topic, nil)
		request.Header.Set("Authorization", "Bearer "+n.token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	if wrong := open("$share/g/a"); wrong.StatusCode != 400 {
		t.Error(wrong.Status)
	}
	stream := open("d/%2B")
	if stream.StatusCode != 200 {
		t.Fatal(stream.Status)
	}
	events, event := bufio.NewScanner(stream.Body), ""
	seen := make(map[string]string)
	for len(seen) < 3 && events.Scan() {
		name, value, _ := strings.Cut(events.Text(), ": ")
		switch {
		case name == "event":
			event = value
		case name == "data" && (event != "listening" || strings.Contains(value, `["g1"]`)):
			seen[event] = value
		}
	}
	if err := events.Err(); err != nil {
		t.Fatal(err)
	}
	var message api.LiveMessage
	if err := json.Unmarshal([]byte(seen["message"]), &message); err != nil || message.Topic != "d/1" || message.Node != "g1" || string(message.Content.Body) != "hello" {
		t.Errorf("%+v, %v", message, err)
	}
	if seen["left-out"] != `{"count":3}` || seen["listening"] != `{"nodes":["g1"],"missing":["g2"]}` {
		t.Errorf("%+v", seen)
	}
	if order := <-orders; order.Filter != "d/+" || order.Over {
		t.Errorf("%+v", order)
	}
	stream.Body.Close()
	for over := false; !over; {
		select {
		case order := <-orders:
			over = order.Over
		case <-time.After(time.Minute):
			t.Fatal("the gateways are not told that it is over")
		}
	}
	entries, err := audit.List(t.Context(), n.control.config.Store, audit.Filter{Limit: 1})
	if err != nil || cmp.Or(entries[0].Action, "") != "messages.watch" || entries[0].Target != "d/+" {
		t.Errorf("%+v, %v", entries, err)
	}
}
