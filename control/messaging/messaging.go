// Package messaging asks the gateways what they have of MQTT and CoAP at this moment: sessions, topics, retained messages, messages as they
// are published, peers, observations and transfers. It keeps nothing. A gateway that does not answer is named in every answer, so that nobody takes a part for the whole.
// Who may ask, and that somebody did, is for the caller to check and to audit.
package messaging

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
)

// asking is how many gateways are asked at once.
const asking = 32

// Gateways are those that are there, and those that have fallen silent.
type Gateways struct{ Present, Silent []string }

// Messaging is safe for concurrent use.
type Messaging struct {
	bus      *bus.Bus
	gateways func() Gateways
	log      *slog.Logger

	mu       sync.Mutex
	watching int
}

// New makes Messaging on the bus. It starts nothing.
func New(b *bus.Bus, gateways func() Gateways, log *slog.Logger) *Messaging {
	return &Messaging{bus: b, gateways: gateways, log: log}
}

// Keys are what sessions can be filtered by.
var Keys = []filter.Key{{Name: "client"}, {Name: "principal"}, {Name: "kind", Values: []string{"device", "app", "anonymous", "foreign"}}, {Name: "device"}, {Name: "node"},
	{Name: "state", Values: []string{"connected", "away"}}, {Name: "version", Values: []string{"3.1.1", "5"}}, {Name: "keepalive"}, {Name: "source"},
	{Name: "queue", Values: []string{"waiting", "empty"}}, {Name: "subscription"}, {Name: "since", Since: true}}

// Session is one session on one gateway. Where several have one of the same client, lists show that which is connected, or was last.
type Session struct {
	Node string
	fieldgate.MQTTSession
}

// Page is part of a list over all gateways.
type Page[T any] struct {
	Items   []T
	More    bool
	Missing []string // gateways that did not answer
}

// which are the terms of a filter that choose gateways.
type which []filter.Term

func (w which) match(node string) bool {
	return !slices.ContainsFunc(w, func(t filter.Term) bool { return !t.Matches(node) })
}

// separate takes the terms about gateways out of those that gateways go by, to whom a device is a principal of that kind.
func separate(terms filter.Filter) (nodes which, others filter.Filter, err error) {
	for _, t := range terms {
		switch t.Key {
		case "node":
			nodes = append(nodes, t)
			continue
		case "device":
			if t.Not {
				return nil, nil, refusal.Invalid("device cannot be excluded: write -principal:NAME.")
			}
			others = append(others, filter.Term{Key: "kind", Values: []filter.Value{{Text: string(fieldgate.PrincipalDevice)}}})
			t.Key = "principal"
		}
		others = append(others, t)
	}
	return nodes, others, nil
}

// Sessions lists sessions behind a place, which is the Order of the last one before.
func (m *Messaging) Sessions(ctx context.Context, terms filter.Filter, after string, limit int) (page Page[Session], err error) {
	nodes, terms, err := separate(terms)
	if err != nil {
		return page, err
	}
	question := fieldgate.MQTTSessionsQuestion{After: after, Limit: limit + 1, Terms: terms}
	answers, missing, err := m.ask(ctx, func(node string) (fieldgate.MQTTQuestion, bool) {
		return fieldgate.MQTTQuestion{Sessions: &question}, nodes.match(node)
	})
	if err != nil {
		return page, err
	}
	return merge(answers, missing, limit, sessionsOf, func(s *Session) string { return s.Order() }), nil
}

func sessionsOf(a *answer) (list []Session, more bool) {
	for i := range a.answer.Sessions {
		list = append(list, Session{a.node, a.answer.Sessions[i]})
	}
	return list, a.answer.More
}

// compare says which of two sessions of a client comes first: one that is connected, or else the one that was last.
func compare(a, b Session) int {
	switch {
	case a.Connected == b.Connected:
		return b.Since.Compare(a.Since)
	case a.Connected:
		return -1
	}
	return 1
}

// Session is a session as each gateway has it, the connected one first.
func (m *Messaging) Session(ctx context.Context, key fieldgate.MQTTSessionKey) (sessions []Session, missing []string, err error) {
	answers, missing, err := m.askAll(ctx, fieldgate.MQTTQuestion{Session: &key})
	for i := range answers {
		list, _ := sessionsOf(&answers[i])
		sessions = append(sessions, list...)
	}
	slices.SortStableFunc(sessions, compare)
	if err == nil && len(sessions) == 0 {
		err = notFound(missing, "The client %.60q has no session: it has ended, or never was.", key.Client)
	}
	return sessions, missing, err
}

// notFound says that nobody has it, as far as is known.
func notFound(missing []string, format string, v ...any) error {
	detail := fmt.Sprintf(format, v...)
	if len(missing) > 0 {
		detail += " That is without the gateways that do not answer: " + strings.Join(missing, ", ") + "."
	}
	return refusal.NotFound("%s", detail)
}

// Outcome is on which gateways a decision was carried out.
type Outcome struct{ Nodes, Missing []string }

// Disconnect closes the connections that sessions have had when they were looked at.
func (m *Messaging) Disconnect(ctx context.Context, sessions []Session) (Outcome, error) {
	since := make(map[string]Session, len(sessions))
	for _, s := range sessions {
		if s.Connected {
			since[s.Node] = s
		}
	}
	if len(since) == 0 {
		return Outcome{}, refusal.Conflict("The client is not connected: there is nothing to close. To forget its session end it.")
	}
	return m.decide(ctx, func(node string) (fieldgate.MQTTQuestion, bool) {
		s, has := since[node]
		return fieldgate.MQTTQuestion{Disconnect: &fieldgate.MQTTDisconnect{MQTTSessionKey: s.MQTTSessionKey, Since: s.Since}}, has
	})
}

// End forgets a session on every gateway that has it.
func (m *Messaging) End(ctx context.Context, key fieldgate.MQTTSessionKey) (Outcome, error) {
	return m.decide(ctx, func(string) (fieldgate.MQTTQuestion, bool) { return fieldgate.MQTTQuestion{End: &key}, true })
}

// DeleteRetained deletes the retained message of a topic on every gateway that has it.
func (m *Messaging) DeleteRetained(ctx context.Context, topic string) (Outcome, error) {
	return m.decide(ctx, func(string) (fieldgate.MQTTQuestion, bool) {
		return fieldgate.MQTTQuestion{DeleteRetained: topic}, true
	})
}

func (m *Messaging) decide(ctx context.Context, question func(node string) (fieldgate.MQTTQuestion, bool)) (outcome Outcome, err error) {
	answers, missing, err := m.ask(ctx, question)
	for i := range answers {
		if answers[i].answer.Done {
			outcome.Nodes = append(outcome.Nodes, answers[i].node)
		}
	}
	outcome.Missing = missing
	return outcome, err
}

// Topic is one level of the tree of topics, over all gateways.
type Topic = fieldgate.MQTTTopic

// Topics lists the levels below a prefix, behind a level.
func (m *Messaging) Topics(ctx context.Context, prefix string, after *string, limit int) (page Page[Topic], counted, others float64, err error) {
	if prefix != "" && (!strings.HasSuffix(prefix, "/") || checkTopic(prefix) != nil) {
		return page, 0, 0, refusal.Invalid("%.60q is no prefix of topics: it ends in / and has neither + nor #, such as plant/hall-1/", prefix)
	}
	answers, missing, err := m.askAll(ctx, fieldgate.MQTTQuestion{Topics: &fieldgate.MQTTTopicsQuestion{Prefix: prefix, After: after, Limit: limit + 1}})
	if err != nil {
		return page, 0, 0, err
	}
	all := make(map[string]*Topic)
	for i := range answers {
		others += answers[i].answer.Others
		if i == 0 || answers[i].answer.Counted < counted {
			counted = answers[i].answer.Counted
		}
		for _, t := range answers[i].answer.Topics {
			sum := all[t.Level]
			if sum == nil {
				sum = &Topic{Level: t.Level}
				all[t.Level] = sum
			}
			sum.Rate += t.Rate
			sum.Retained, sum.Topics, sum.Own = max(sum.Retained, t.Retained), max(sum.Topics, t.Topics), sum.Own || t.Own
			sum.AtLeast = sum.AtLeast || t.AtLeast
		}
	}
	page = merge(answers, missing, limit, func(a *answer) (list []Topic, more bool) {
		for i := range a.answer.Topics {
			if sum := all[a.answer.Topics[i].Level]; sum != nil {
				list = append(list, *sum)
				delete(all, sum.Level)
			} else {
				list = append(list, a.answer.Topics[i])
			}
		}
		return list, a.answer.More
	}, func(t *Topic) string { return t.Level })
	return page, counted, others, nil
}

// Retained is a retained message, and the gateways that have it.
type Retained struct {
	fieldgate.MQTTRetained
	Nodes []string
}

// Retained lists retained messages that a topic filter selects, behind a topic.
func (m *Messaging) Retained(ctx context.Context, topics, after string, limit int) (page Page[Retained], err error) {
	if err := CheckFilter(topics); err != nil {
		return page, err
	}
	answers, missing, err := m.askAll(ctx, fieldgate.MQTTQuestion{Retained: &fieldgate.MQTTRetainedQuestion{Filter: topics, After: after, Limit: limit + 1}})
	if err != nil {
		return page, err
	}
	return merge(answers, missing, limit, retainedOf, retainedOrder), nil
}

// Message is one retained message with what it carries.
func (m *Messaging) Message(ctx context.Context, topic string) (message Retained, missing []string, err error) {
	if err := checkTopic(topic); err != nil {
		return message, nil, err
	}
	answers, missing, err := m.askAll(ctx, fieldgate.MQTTQuestion{Message: topic})
	if err != nil {
		return message, nil, err
	}
	page := merge(answers, missing, 1, retainedOf, retainedOrder)
	if len(page.Items) == 0 {
		return message, missing, notFound(missing, "There is no retained message on %.120q.", topic)
	}
	return page.Items[0], missing, nil
}

func retainedOrder(r *Retained) string { return fieldgate.TopicOrder(r.Topic) }

func retainedOf(a *answer) (list []Retained, more bool) {
	for i := range a.answer.Retained {
		list = append(list, Retained{a.answer.Retained[i], []string{a.node}})
	}
	return list, a.answer.More
}

// combine puts together what two gateways have of the same.
func combine[T any](a, b *T) {
	switch one := any(a).(type) {
	case *Session:
		if other := any(b).(*Session); compare(*one, *other) > 0 {
			*one = *other
		}
	case *Retained:
		other := any(b).(*Retained)
		nodes := append(one.Nodes, other.Nodes...)
		if other.Time.After(one.Time) {
			*one = *other
		}
		one.Nodes = nodes
	}
}

// merge is the first entries of lists that are each in order. What is behind the end of a list that goes on is on a later page: nobody
// knows yet what else comes there.
func merge[A, T any](answers []given[A], missing []string, limit int, list func(*given[A]) (entries []T, more bool), order func(*T) string) Page[T] {
	page := Page[T]{Items: []T{}, Missing: missing}
	end := ""
	for i := range answers {
		entries, more := list(&answers[i])
		if more && len(entries) > 0 {
			if last := order(&entries[len(entries)-1]); end == "" || last < end {
				end = last
			}
		}
		page.Items = append(page.Items, entries...)
	}
	slices.SortStableFunc(page.Items, func(a, b T) int { return cmp.Compare(order(&a), order(&b)) })
	kept := page.Items[:0]
	for i := range page.Items {
		if n := len(kept); n > 0 && order(&kept[n-1]) == order(&page.Items[i]) {
			combine(&kept[n-1], &page.Items[i])
			continue
		}
		kept = append(kept, page.Items[i])
	}
	page.Items = kept
	if at := slices.IndexFunc(kept, func(t T) bool { return end != "" && order(&t) > end }); at >= 0 {
		page.Items, page.More = kept[:at], true
	}
	page.More = page.More || end != ""
	if len(page.Items) > limit {
		page.Items, page.More = page.Items[:limit], true
	}
	return page
}

// given is what one gateway answered.
type given[A any] struct {
	node   string
	answer A
}

type answer = given[fieldgate.MQTTAnswer]

func (m *Messaging) askAll(ctx context.Context, question fieldgate.MQTTQuestion) ([]answer, []string, error) {
	return m.ask(ctx, func(string) (fieldgate.MQTTQuestion, bool) { return question, true })
}

// ask asks the gateways that question has one for, in the order of their names. One that has refused a question that others have answered
// is an error: what it refuses is a decision that it could not carry out.
func (m *Messaging) ask(ctx context.Context, question func(node string) (fieldgate.MQTTQuestion, bool)) ([]answer, []string, error) {
	return ask[fieldgate.MQTTQuestion, fieldgate.MQTTAnswer](ctx, m, fieldgate.SubjectMQTT, question)
}

func ask[Q, A any](ctx context.Context, m *Messaging, subject string, question func(node string) (Q, bool)) (answers []given[A], missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, fieldgate.MQTTAnswerTimeout)
	defer cancel()
	gateways := m.gateways()
	missing = []string{}
	for _, node := range gateways.Silent {
		if _, asked := question(node); asked {
			missing = append(missing, node)
		}
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	turn := make(chan struct{}, asking)
	for _, node := range gateways.Present {
		q, asked := question(node)
		if !asked {
			continue
		}
		turn <- struct{}{}
		group.Go(func() {
			defer func() { <-turn }()
			answered, failure := askOne[Q, A](ctx, m, subject+node, &q)
			mu.Lock()
			defer mu.Unlock()
			var refused *bus.Refusal
			switch {
			case failure == nil:
				answers = append(answers, given[A]{node, answered})
			case errors.As(failure, &refused):
				err = refusal.Conflict("The gateway %s: %s.", node, refused.Reason)
			case errors.Is(failure, bus.ErrUnavailable):
				err = failure
			default:
				m.log.Debug("a gateway does not say what it has", "subject", subject, "node", node, "error", failure)
				missing = append(missing, node)
			}
		})
	}
	group.Wait()
	slices.Sort(missing)
	slices.SortFunc(answers, func(a, b given[A]) int { return cmp.Compare(a.node, b.node) })
	return answers, missing, err
}

func askOne[Q, A any](ctx context.Context, m *Messaging, subject string, question *Q) (answered A, err error) {
	encoded, err := json.Marshal(question)
	if err != nil {
		return answered, err
	}
	got, err := m.bus.Request(ctx, subject, encoded)
	if err == nil {
		err = json.Unmarshal(got.Data, &answered)
	}
	return answered, err
}

// CheckFilter refuses what is no topic filter that messages can be watched or listed by.
func CheckFilter(topics string) error {
	err := contract.ValidFilter(topics)
	if err == nil && !isTopicText(topics) {
		err = errors.New("it is not UTF-8 text")
	}
	if err != nil {
		return refusal.Invalid("%.60q cannot be watched or listed by: %s. A topic filter is such as plant/+/temperature or plant/#.", topics, err)
	}
	return nil
}

func checkTopic(topic string) error {
	if topic == "" || strings.ContainsAny(topic, "+#") || !isTopicText(topic) {
		return refusal.Invalid("%.60q is no topic: it has neither + nor #.", topic)
	}
	return nil
}

// isTopicText says whether MQTT can have a text as a topic or filter (MQTT 5 section 4.7.3), and gateways take it.
func isTopicText(text string) bool {
	return len(text) <= fieldgate.MaxPathBytes && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}
