package gateway

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

// field is a contract whose devices publish and hear everything below their own topics.
func field() *fieldgate.Contract {
	devices := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
	id := fieldgate.Parameter{Name: "id", In: fieldgate.InPath, Required: true}
	body := &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/T"}}}
	operation := func(name, topic string, action fieldgate.MQTTAction, parameters ...fieldgate.Parameter) fieldgate.Operation {
		o := fieldgate.Operation{ID: name, Access: devices, Parameters: parameters, MaxBody: 1 << 20, OnInvalid: fieldgate.InvalidReject,
			MQTT: &fieldgate.MQTTBinding{Topic: topic, Action: action, QoS: 2, Retain: true}}
		if action == fieldgate.ActionPublish {
			o.Request = body
		}
		return o
	}
	return &fieldgate.Contract{API: "field", Version: "1", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleActive,
		Schemas: json.RawMessage(`{"$defs":{"T":{"type":"object","properties":{"temp":{"type":"number"},"code":{"type":"string","format":"password"}}}}}`),
		Operations: []fieldgate.Operation{operation("say", "d/{id}/say", fieldgate.ActionPublish, id), operation("hear", "d/{id}/say", fieldgate.ActionSubscribe, id),
			operation("unlock", "unlock/{pin}", fieldgate.ActionPublish, fieldgate.Parameter{Name: "pin", In: fieldgate.InPath, Required: true})}}
}

type inspected struct {
	*running
	token string
}

func inspect(t *testing.T) *inspected {
	b := openBus(t)
	p := &plane{}
	p.publish(t, field())
	token, hashes := newToken(t)
	p.change(t, fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "d1", Credentials: hashes})
	p.open(t, b)
	t.Cleanup(p.close)
	g := &inspected{run(t, t.TempDir(), b), token}
	until(t, "the gateway answers no question", func() bool {
		_, err := b.Request(t.Context(), fieldgate.SubjectMQTT+"n1", []byte(`{"sessions":{}}`))
		return err == nil
	})
	return g
}

func (i *inspected) connect(client string, o mqtt.ClientOptions) *mqtt.Client {
	i.t.Helper()
	conn, err := net.Dial("tcp", i.Addresses()["mqtt"])
	if err != nil {
		i.t.Fatal(err)
	}
	o.ClientID, o.Password = client, i.token
	o.Properties.SetNumber(mqtt.SessionExpiryInterval, 100)
	c, err := mqtt.Dial(i.t.Context(), conn, o)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { c.Close() })
	return c
}

// ask asks over the bus, as the control plane does.
func (i *inspected) ask(question fieldgate.MQTTQuestion) (answer fieldgate.MQTTAnswer) {
	i.t.Helper()
	encoded, err := json.Marshal(question)
	if err != nil {
		i.t.Fatal(err)
	}
	got, err := i.config.Bus.Request(i.t.Context(), fieldgate.SubjectMQTT+"n1", encoded)
	if err == nil {
		err = json.Unmarshal(got.Data, &answer)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return answer
}

func (i *inspected) publish(c *mqtt.Client, topic, payload string, retain bool) {
	i.t.Helper()
	if err := c.Publish(i.t.Context(), &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: retain}); err != nil {
		i.t.Fatal(err)
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func TestSessionsAreShownAndHandled(t *testing.T) {
	g := inspect(t)
	will := mqtt.Publish{Topic: []byte("d/d1/say"), Payload: []byte(`{"temp":0}`), QoS: 1}
	blocked, got := make(chan struct{}), make(chan struct{}, 10)
	c := g.connect("pump/1", mqtt.ClientOptions{KeepAlive: 40, Will: &will, Receive: func(*mqtt.Publish) { got <- struct{}{}; <-blocked }})
	if _, err := c.Subscribe(t.Context(), mqtt.Filter{Filter: []byte("d/d1/say"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	speaker := g.connect("speaker", mqtt.ClientOptions{Version: mqtt.V311})
	g.publish(speaker, "d/d1/say", `{"temp":1}`, false)
	<-got // it is not acknowledged

	all := g.ask(fieldgate.MQTTQuestion{Sessions: &fieldgate.MQTTSessionsQuestion{Limit: 10}})
	if len(all.Sessions) != 2 || all.More || all.Sessions[0].Client != "pump/1" {
		t.Fatalf("%+v", all)
	}
	s := all.Sessions[0]
	if !s.Connected || s.Version != "5" || s.KeepAlive != 40 || s.Subscriptions != 1 || s.InFlight != 1 || s.Expiry != 100 || !s.Kept ||
		!strings.HasPrefix(s.Source, "127.0.0.1:") || time.Since(s.Since) > patience || s.Principal != "d1" || s.Kind != fieldgate.PrincipalDevice {
		t.Errorf("%+v", s)
	}
	if all.Sessions[1].Version != "3.1.1" || all.Sessions[1].Kept {
		t.Errorf("%+v", all.Sessions[1])
	}
	first := g.ask(fieldgate.MQTTQuestion{Sessions: &fieldgate.MQTTSessionsQuestion{Limit: 1}})
	next := g.ask(fieldgate.MQTTQuestion{Sessions: &fieldgate.MQTTSessionsQuestion{Limit: 1, After: first.Sessions[0].Order()}})
	if len(first.Sessions) != 1 || !first.More || len(next.Sessions) != 1 || next.More || next.Sessions[0].Client != "speaker" {
		t.Errorf("%+v, then %+v", first, next)
	}
	for text, want := range map[string]int{"client pump/1": 1, "client none": 0, "version 5": 1, "state away": 0, "queue waiting": 1, "subscription d/d1/say": 1, "principal d1": 2, "keepalive 40": 1, " PUMP": 1} {
		key, value, _ := strings.Cut(text, " ")
		terms := []fieldgate.FilterTerm{{Key: key, Values: []fieldgate.FilterValue{{Text: value}}}}
		if n := len(g.ask(fieldgate.MQTTQuestion{Sessions: &fieldgate.MQTTSessionsQuestion{Limit: 10, Terms: terms}}).Sessions); n != want {
			t.Errorf("%s selects %d sessions, want %d", text, n, want)
		}
	}
	one := g.ask(fieldgate.MQTTQuestion{Session: &s.MQTTSessionKey}).Sessions[0]
	if len(one.Filters) != 1 || one.Filters[0].Filter != "d/d1/say" || one.Filters[0].QoS != 1 || len(one.Messages) != 1 || one.Messages[0].Topic != "d/d1/say" ||
		one.Messages[0].Bytes != 10 || one.Messages[0].ID == 0 || one.Will == nil || one.Will.Topic != "d/d1/say" || one.MaxQueued == 0 {
		t.Errorf("%+v", one)
	}
	close(blocked)

	// A connection that was made since is not meant.
	if g.ask(fieldgate.MQTTQuestion{Disconnect: &fieldgate.MQTTDisconnect{MQTTSessionKey: s.MQTTSessionKey, Since: s.Since.Add(-time.Second)}}).Done {
		t.Error("another connection was closed")
	}
	if !g.ask(fieldgate.MQTTQuestion{Disconnect: &fieldgate.MQTTDisconnect{MQTTSessionKey: s.MQTTSessionKey, Since: s.Since}}).Done {
		t.Error("the session was not disconnected")
	}
	<-c.Done()
	if refusal, ok := c.Err().(*mqtt.ReasonError); !ok || refusal.Reason != mqtt.AdministrativeAction {
		t.Error(c.Err())
	}
	until(t, "the client is not seen as away", func() bool { return !g.ask(fieldgate.MQTTQuestion{Session: &s.MQTTSessionKey}).Sessions[0].Connected })

	again := g.connect("pump/1", mqtt.ClientOptions{Resume: true})
	if !again.Connack.SessionPresent {
		t.Error("a disconnected session is gone")
	}
	if !g.ask(fieldgate.MQTTQuestion{End: &s.MQTTSessionKey}).Done {
		t.Error("the session was not ended")
	}
	<-again.Done()
	if n := len(g.ask(fieldgate.MQTTQuestion{Session: &s.MQTTSessionKey}).Sessions); n != 0 {
		t.Error("an ended session is there")
	}
	if g.ask(fieldgate.MQTTQuestion{End: &s.MQTTSessionKey}).Done {
		t.Error("a session was ended twice")
	}
	if c := g.connect("pump/1", mqtt.ClientOptions{Resume: true}); c.Connack.SessionPresent {
		t.Error("an ended session was resumed")
	}
}

func TestTopicsAndRetainedMessagesAreShown(t *testing.T) {
	g := inspect(t)
	c := g.connect("c", mqtt.ClientOptions{})
	for _, id := range []string{"d1", "d2", "d3"} {
		g.publish(c, "d/"+id+"/say", fmt.Sprintf(`{"temp":1,"code":"%s-secret"}`, id), true)
	}
	g.publish(c, "unlock/1234", `{}`, true)

	if got := g.ask(fieldgate.MQTTQuestion{Topics: &fieldgate.MQTTTopicsQuestion{Limit: 10}}); len(got.Topics) != 1 || got.Topics[0].Level != "d" || got.Topics[0].Retained != 3 ||
		got.Topics[0].Topics != 3 || got.Topics[0].Own {
		t.Errorf("%+v", got) // a topic that holds a PIN is not named
	}
	g.publish(c, "d/d4/say", `{"temp":1}`, false) // counted from now on
	until(t, "a message is not counted", func() bool {
		got := g.ask(fieldgate.MQTTQuestion{Topics: &fieldgate.MQTTTopicsQuestion{Prefix: "d/", Limit: 10}})
		return len(got.Topics) == 4 && got.Topics[3].Level == "d4" && got.Topics[3].Rate > 0 && got.Counted > 0
	})
	first := g.ask(fieldgate.MQTTQuestion{Topics: &fieldgate.MQTTTopicsQuestion{Prefix: "d/", Limit: 3}})
	next := g.ask(fieldgate.MQTTQuestion{Topics: &fieldgate.MQTTTopicsQuestion{Prefix: "d/", Limit: 3, After: &first.Topics[2].Level}})
	if !first.More || next.More || len(next.Topics) != 1 || next.Topics[0].Level != "d4" {
		t.Errorf("%+v, then %+v", first, next)
	}
	if got := g.ask(fieldgate.MQTTQuestion{Topics: &fieldgate.MQTTTopicsQuestion{Prefix: "d/d1/", Limit: 3}}); len(got.Topics) != 1 || !got.Topics[0].Own {
		t.Errorf("%+v", got)
	}

	list := g.ask(fieldgate.MQTTQuestion{Retained: &fieldgate.MQTTRetainedQuestion{Filter: "#", Limit: 2}})
	rest := g.ask(fieldgate.MQTTQuestion{Retained: &fieldgate.MQTTRetainedQuestion{Filter: "#", Limit: 2, After: "d/d2/say"}})
	if len(list.Retained) != 2 || !list.More || list.Retained[0].Topic != "d/d1/say" || list.Retained[0].Principal != "d1" || list.Retained[0].Content != nil ||
		len(rest.Retained) != 1 || rest.More {
		t.Errorf("%+v, then %+v", list, rest)
	}
	one := g.ask(fieldgate.MQTTQuestion{Message: "d/d1/say"}).Retained
	if len(one) != 1 || string(one[0].Content.JSON) != `{"temp":1,"code":{"redacted":"format: password"}}` {
		t.Errorf("%+v", one)
	}
	if !g.ask(fieldgate.MQTTQuestion{DeleteRetained: "d/d1/say"}).Done || g.ask(fieldgate.MQTTQuestion{DeleteRetained: "d/d1/say"}).Done {
		t.Error("the retained message was not deleted once")
	}
	if n := len(g.ask(fieldgate.MQTTQuestion{Message: "d/d1/say"}).Retained); n != 0 {
		t.Error("a deleted retained message is there")
	}
}

func TestMessagesAreWatched(t *testing.T) {
	g := inspect(t)
	heard := make(chan fieldgate.MQTTHeard, 1000)
	stop, err := g.config.Bus.Subscribe(fieldgate.SubjectMQTTHeard+"w1", func(_ string, data []byte) {
		var h fieldgate.MQTTHeard
		if err := json.Unmarshal(data, &h); err != nil {
			t.Error(err)
		}
		heard <- h
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	order := func(o fieldgate.MQTTWatch) {
		t.Helper()
		data, err := json.Marshal(o)
		if err == nil {
			err = g.config.Bus.Publish(fieldgate.SubjectMQTTWatch, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	open := func() int {
		w := &g.inspected.watches
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.open)
	}
	order(fieldgate.MQTTWatch{ID: "w1", Filter: "d/+/x#"}) // is none
	until(t, "the order is not followed", func() bool {
		order(fieldgate.MQTTWatch{ID: "w1", Filter: "d/+/say"})
		return open() == 1
	})
	until(t, "nothing is subscribed", func() bool { // the order is known before it is followed
		c := g.connect("probe", mqtt.ClientOptions{})
		g.publish(c, "d/d1/say", `{"temp":0}`, false)
		select {
		case h := <-heard:
			return len(h.Messages) > 0
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	c := g.connect("c", mqtt.ClientOptions{})
	g.publish(c, "d/d1/say", `{"temp":1,"code":"secret"}`, false)
	var first fieldgate.MQTTHeardMessage
	for first.Client != "c" {
		h := <-heard
		if h.Node != "n1" {
			t.Fatalf("%+v", h)
		}
		if len(h.Messages) > 0 {
			first = h.Messages[len(h.Messages)-1]
		}
	}
	if first.Topic != "d/d1/say" || string(first.Content.JSON) != `{"temp":1,"code":{"redacted":"format: password"}}` || first.Principal != "d1" || first.Bytes != 26 {
		t.Errorf("%+v", first)
	}
	// What is too much is counted: so many messages take less than a second, or are spread over several.
	const many = 10 * fieldgate.MaxMQTTWatchRate
	shown, leftOut := 0, 0
	for range many {
		if err := c.Publish(t.Context(), &mqtt.Publish{Topic: []byte("d/d1/say"), Payload: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	g.publish(c, "d/d1/say", `{"temp":2}`, false)
	for shown+leftOut < many+1 {
		h := <-heard
		shown, leftOut = shown+len(h.Messages), leftOut+h.LeftOut
		if data, _ := json.Marshal(h); len(data) > 1<<20 {
			t.Errorf("%d bytes at once", len(data))
		}
	}
	order(fieldgate.MQTTWatch{ID: "w1", Filter: "d/+/say", Over: true})
	until(t, "an order that is over is followed", func() bool { return open() == 0 })
}

func TestMalformedQuestionsAreRefused(t *testing.T) {
	g := inspect(t)
	for _, question := range []string{``, `{}`, `{"message":"a/#"}`, `{"deleteRetained":"+"}`, `{"retained":{"filter":"a#"}}`, `[]`} {
		if _, err := g.config.Bus.Request(t.Context(), fieldgate.SubjectMQTT+"n1", []byte(question)); err == nil || !strings.Contains(err.Error(), errQuestion.Error()) {
			t.Errorf("%s: %v", question, err)
		}
	}
}

// All levels come on some page, however many retained messages there are below one; where not all are counted it is said.
func TestTreesOfManyRetainedMessages(t *testing.T) {
	const below = fieldgate.MaxMQTTScan + 100
	kept := make([]string, 0, below+2)
	kept = append(kept, "p/a")
	for i := range below {
		kept = append(kept, fmt.Sprintf("p/many/%05d", i))
	}
	kept = append(kept, "p/many-more")
	tree := topics{broker: broker.New(), mayName: func(string) bool { return true }, retained: func(_, after string, visit func(*broker.Message) bool) error {
		for _, topic := range kept {
			if fieldgate.TopicOrder(topic) > fieldgate.TopicOrder(after) && !visit(&broker.Message{Topic: topic}) {
				return nil
			}
		}
		return nil
	}}
	t.Cleanup(tree.stop)
	var seen []string
	var after *string
	for more := true; more; {
		answer, err := tree.list(&fieldgate.MQTTTopicsQuestion{Prefix: "p/", After: after, Limit: 10}, time.Now())
		if err != nil || len(answer.Topics) == 0 {
			t.Fatalf("%+v, %v", answer, err)
		}
		for _, topic := range answer.Topics {
			seen = append(seen, fmt.Sprint(topic.Level, " ", topic.Retained, " ", topic.AtLeast))
			after = &topic.Level
		}
		more = answer.More
	}
	if want := []string{"a 1 false", fmt.Sprint("many ", fieldgate.MaxMQTTScan-1, " true"), "many-more 1 false"}; !slices.Equal(seen, want) {
		t.Error(seen)
	}
}

// Lists are in the order in which the disk holds topics, so that a page begins where the one before ended.
func TestRetainedMessagesAreInTheOrderOfLevels(t *testing.T) {
	g := inspect(t)
	c := g.connect("c", mqtt.ClientOptions{})
	want := []string{"d/d1/say", "d/d1!/say", "d/d1-2/say", "d/d2/say"}
	for _, topic := range slices.Backward(want) {
		g.publish(c, topic, `{}`, true)
	}
	var got []string
	for after, more := "", true; more; {
		page := g.ask(fieldgate.MQTTQuestion{Retained: &fieldgate.MQTTRetainedQuestion{Filter: "d/#", Limit: 1, After: after}})
		after, more = page.Retained[0].Topic, page.More
		got = append(got, after)
	}
	if !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestPagesHoldTheFirst(t *testing.T) {
	p := newPage[int](3)
	for _, n := range []int{5, 2, 9, 1, 7, 3} {
		if order := fmt.Sprint(n); p.fits(order) {
			p.add(order, n)
		}
	}
	if list, more := p.entries(); !slices.Equal(list, []int{1, 2, 3}) || !more {
		t.Error(list, more)
	}
	large := newPage[int](fieldgate.MaxMQTTPage)
	for n := range 300 {
		large.add(fmt.Sprintf("%04d", n)+strings.Repeat("x", 4000), n)
	}
	if list, more := large.entries(); len(list) == 0 || len(list) > fieldgate.MaxMQTTPageBytes/4000 || !more {
		t.Error(len(list), more)
	}
}
