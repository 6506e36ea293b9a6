package adminapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/audit"
	"fieldgate/control/filter"
	"fieldgate/control/messaging"
	"fieldgate/control/refusal"
)

const everyTopic = "#"

func (o *operations) ListMqttSessions(ctx context.Context, request ListMqttSessionsRequestObject) (ListMqttSessionsResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "mqtt sessions", p.Filter)
	if err != nil {
		return nil, err
	}
	place, err := page.parts(3)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(p.Filter, time.Now(), messaging.Keys...)
	if err != nil {
		return nil, err
	}
	after := ""
	if place != nil {
		key := fieldgate.MQTTSessionKey{Kind: fieldgate.PrincipalKind(place[1]), Principal: place[2], Client: place[0]}
		after = key.Order()
	}
	list, err := o.config.Messaging.Sessions(ctx, terms, after, page.limit)
	if err != nil {
		return nil, err
	}
	answer := ListMqttSessions200JSONResponse{Items: []api.MqttSession{}, Missing: list.Missing}
	for i := range list.Items {
		answer.Items = append(answer.Items, mqttSession(&list.Items[i]))
	}
	if list.More {
		last := list.Items[len(list.Items)-1]
		answer.Next = page.nextAt(last.Client, string(last.Kind), last.Principal)
	}
	return answer, nil
}

// mqttSessionID is a session's name in addresses: client identifiers may hold any character.
func mqttSessionID(key *fieldgate.MQTTSessionKey) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join([]string{string(key.Kind), key.Principal, key.Client}, "\x00")))
}

func mqttSessionKey(id string) (key fieldgate.MQTTSessionKey, err error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(id)
	parts := strings.Split(string(decoded), "\x00")
	if err != nil || len(parts) != 3 || !isText(strings.Join(parts, "")) {
		return key, refusal.NotFound("There is no such session: take the id from the list of sessions.")
	}
	return fieldgate.MQTTSessionKey{Kind: fieldgate.PrincipalKind(parts[0]), Principal: parts[1], Client: parts[2]}, nil
}

func mqttSession(s *messaging.Session) api.MqttSession {
	return api.MqttSession{Id: mqttSessionID(&s.MQTTSessionKey), Client: s.Client, Kind: string(s.Kind), Principal: s.Principal, Node: s.Node, Connected: s.Connected, Since: s.Since,
		Version: s.Version, KeepAlive: s.KeepAlive, Source: s.Source, ExpirySeconds: s.Expiry, Kept: s.Kept, Subscriptions: s.Subscriptions,
		Queued: s.Queued, QueuedBytes: int64(s.QueuedBytes), InFlight: s.InFlight}
}

func (o *operations) GetMqttSession(ctx context.Context, request GetMqttSessionRequestObject) (GetMqttSessionResponseObject, error) {
	key, err := mqttSessionKey(request.MqttSession)
	if err != nil {
		return nil, err
	}
	sessions, missing, err := o.config.Messaging.Session(ctx, key)
	if err != nil {
		return nil, err
	}
	s := &sessions[0]
	answer := GetMqttSession200JSONResponse{Session: mqttSession(s), Subscriptions: []api.MqttSubscription{}, Messages: []api.MqttInFlight{}, SubscriptionsNotShown: s.FiltersNotShown,
		Receiving: s.Receiving, MaxQueued: s.MaxQueued, MaxQueuedBytes: int64(s.MaxQueuedBytes), Missing: missing}
	for _, f := range s.Filters {
		answer.Subscriptions = append(answer.Subscriptions, api.MqttSubscription{Filter: f.Filter, Qos: int(f.QoS), NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, Id: int64(f.ID), Mute: f.Mute})
	}
	for _, m := range s.Messages {
		answer.Messages = append(answer.Messages, api.MqttInFlight{Id: int(m.ID), Topic: m.Topic, Qos: int(m.QoS), Bytes: int64(m.Bytes), Released: m.Released})
	}
	if w := s.Will; w != nil {
		answer.Will = &api.MqttWill{Topic: w.Topic, Qos: int(w.QoS), Retain: w.Retain, DelaySeconds: int64(w.Delay), Bytes: int64(w.Bytes)}
	}
	return answer, nil
}

// sessionFacts is what the audit keeps of a session.
type sessionFacts struct {
	Principal string `json:"principal"`
	Nodes     string `json:"nodes"`
	Queued    int    `json:"queued,omitempty"`
}

func factsOf(sessions []messaging.Session) sessionFacts {
	facts := sessionFacts{Principal: sessions[0].Principal}
	var nodes []string
	for i := range sessions {
		nodes = append(nodes, sessions[i].Node)
		facts.Queued += sessions[i].Queued + sessions[i].InFlight
	}
	facts.Nodes = strings.Join(nodes, ", ")
	return facts
}

func outcomeAnswer(outcome *messaging.Outcome) OutcomeAnswerJSONResponse {
	return OutcomeAnswerJSONResponse{Nodes: append([]string{}, outcome.Nodes...), Missing: outcome.Missing}
}

func (o *operations) DisconnectMqttSession(ctx context.Context, request DisconnectMqttSessionRequestObject) (DisconnectMqttSessionResponseObject, error) {
	key, err := mqttSessionKey(request.MqttSession)
	if err != nil {
		return nil, err
	}
	sessions, _, err := o.config.Messaging.Session(ctx, key)
	if err != nil {
		return nil, err
	}
	if !sessions[0].Connected {
		return nil, refusal.Conflict("The client %.60q is away: there is no connection to close. To forget its session end it.", key.Client)
	}
	reason := ""
	if request.Body != nil {
		reason = request.Body.Reason
	}
	if err := o.auditAction(ctx, audit.Change{Action: "mqtt-session.disconnect", Target: auditName(key.Client), Detail: reason, After: factsOf(sessions)}); err != nil {
		return nil, err
	}
	outcome, err := o.config.Messaging.Disconnect(ctx, sessions)
	if err != nil {
		return nil, err
	}
	return DisconnectMqttSession200JSONResponse{outcomeAnswer(&outcome)}, nil
}

func (o *operations) EndMqttSession(ctx context.Context, request EndMqttSessionRequestObject) (EndMqttSessionResponseObject, error) {
	key, err := mqttSessionKey(request.MqttSession)
	if err != nil {
		return nil, err
	}
	sessions, _, err := o.config.Messaging.Session(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := o.auditAction(ctx, audit.Change{Action: "mqtt-session.end", Target: auditName(key.Client), Detail: request.Params.Reason, Before: factsOf(sessions)}); err != nil {
		return nil, err
	}
	outcome, err := o.config.Messaging.End(ctx, key)
	if err != nil {
		return nil, err
	}
	return EndMqttSession200JSONResponse{outcomeAnswer(&outcome)}, nil
}

// auditName is how the audit names what clients have named: printable, and not too long.
func auditName(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func (o *operations) ListTopics(ctx context.Context, request ListTopicsRequestObject) (ListTopicsResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "topics", p.Prefix)
	if err != nil {
		return nil, err
	}
	place, err := page.parts(1) // a level may be empty
	if err != nil {
		return nil, err
	}
	var after *string
	if place != nil {
		after = &place[0]
	}
	list, counted, others, err := o.config.Messaging.Topics(ctx, p.Prefix, after, page.limit)
	if err != nil {
		return nil, err
	}
	answer := ListTopics200JSONResponse{Items: []api.Topic{}, Missing: list.Missing, CountedSeconds: counted, OthersPerSecond: others}
	for _, t := range list.Items {
		answer.Items = append(answer.Items, api.Topic{Level: t.Level, Topic: p.Prefix + t.Level, PerSecond: t.Rate, Retained: t.Retained, Below: t.Topics, AtLeast: t.AtLeast, Published: t.Own})
	}
	if list.More {
		answer.Next = page.nextAt(list.Items[len(list.Items)-1].Level)
	}
	return answer, nil
}

func (o *operations) ListRetained(ctx context.Context, request ListRetainedRequestObject) (ListRetainedResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "retained", p.Topic)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Messaging.Retained(ctx, cmp.Or(p.Topic, everyTopic), page.after, page.limit)
	if err != nil {
		return nil, err
	}
	answer := ListRetained200JSONResponse{Items: []api.Retained{}, Missing: list.Missing}
	for i := range list.Items {
		answer.Items = append(answer.Items, retained(&list.Items[i]))
	}
	if list.More {
		answer.Next = page.next(list.Items[len(list.Items)-1].Topic)
	}
	return answer, nil
}

func retained(r *messaging.Retained) api.Retained {
	return api.Retained{Topic: r.Topic, Qos: int(r.QoS), Bytes: int64(r.Bytes), ContentType: r.ContentType, Principal: r.Principal, Client: r.Client,
		PublishedAt: r.Time, ExpiresAt: r.Expires, Nodes: r.Nodes}
}

func (o *operations) GetRetained(ctx context.Context, request GetRetainedRequestObject) (GetRetainedResponseObject, error) {
	topic := request.Params.Topic
	message, missing, err := o.config.Messaging.Message(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := o.auditAction(ctx, audit.Change{Action: "retained.look", Target: auditName(topic)}); err != nil {
		return nil, err
	}
	return GetRetained200JSONResponse{Message: retained(&message), Content: capturedMessage(message.Content), Missing: missing}, nil
}

func (o *operations) DeleteRetained(ctx context.Context, request DeleteRetainedRequestObject) (DeleteRetainedResponseObject, error) {
	topic := request.Params.Topic
	message, _, err := o.config.Messaging.Message(ctx, topic)
	if err != nil {
		return nil, err
	}
	change := audit.Change{Action: "retained.delete", Target: auditName(topic), Before: map[string]any{"bytes": message.Bytes, "publisher": message.Principal, "nodes": strings.Join(message.Nodes, ", ")}}
	if err := o.auditAction(ctx, change); err != nil {
		return nil, err
	}
	outcome, err := o.config.Messaging.DeleteRetained(ctx, topic)
	if err != nil {
		return nil, err
	}
	return DeleteRetained200JSONResponse{outcomeAnswer(&outcome)}, nil
}

func (o *operations) StreamMessages(ctx context.Context, request StreamMessagesRequestObject) (StreamMessagesResponseObject, error) {
	topics := cmp.Or(request.Params.Topic, everyTopic)
	if err := messaging.CheckFilter(topics); err != nil {
		return nil, err
	}
	if err := o.auditAction(ctx, audit.Change{Action: "messages.watch", Target: auditName(topics)}); err != nil {
		return nil, err
	}
	watch, err := o.config.Messaging.Watch(topics)
	if err != nil {
		return nil, err
	}
	stream := newEventStream(ctx, o.stopping, watch.Close)
	var listens listening
	stream.wait = func(timeout <-chan time.Time) {
		select {
		case heard := <-watch.Messages():
			stream.event("message", liveMessage(&heard))
		case <-watch.Changed():
		case <-timeout:
		case <-ctx.Done():
		case <-o.stopping:
		}
		if leftOut := watch.LeftOut(); leftOut > 0 {
			stream.event("left-out", map[string]int{"count": leftOut})
		}
		var now listening
		if now.Nodes, now.Missing = watch.Listening(); !slices.Equal(now.Nodes, listens.Nodes) || !slices.Equal(now.Missing, listens.Missing) {
			listens = now
			stream.event("listening", now)
		}
	}
	return StreamMessages200TexteventStreamResponse{Body: stream}, nil
}

type listening struct {
	Nodes   []string `json:"nodes"`
	Missing []string `json:"missing"`
}

func liveMessage(h *messaging.Heard) api.LiveMessage {
	return api.LiveMessage{Node: h.Node, Topic: h.Topic, Qos: int(h.QoS), Retain: h.Retain, Bytes: int64(h.Bytes), ContentType: h.ContentType,
		Principal: h.Principal, Client: h.Client, PublishedAt: h.Time, Content: capturedMessage(&h.Content)}
}
