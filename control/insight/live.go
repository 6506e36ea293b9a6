package insight

import (
	"errors"
	"slices"
	"sync"
	"time"

	"fieldgate"
)

const (
	maxRecent        = 20_000 // exchanges that are remembered, about 10 MB
	maxSeconds       = 300    // of live rates
	maxSubscribers   = 64
	subscriberBuffer = 1_024
)

// ErrTooManySubscribers refuses one more reader of live exchanges.
var ErrTooManySubscribers = errors.New("too many readers of live traffic: end one of them")

// Exchange is a Record with the name that problem details gave to its caller.
type Exchange struct {
	fieldgate.Record
	Node     string // gateway
	Instance string
}

// live holds the newest exchanges, the counts of the last seconds, and who listens.
type live struct {
	mu          sync.Mutex
	recent      []Exchange // a ring once it is full
	oldest      int        // in the full ring
	seconds     [maxSeconds + 1]second
	subscribers map[*Subscriber]bool
}

// second is what happened within one second.
type second struct {
	at        int64 // seconds since 1970
	protocols [fieldgate.Protocols]protocolCount
	problems  map[string]namedCount
	findings  map[string]namedCount
}

type protocolCount struct {
	exchanges, passed, refused, failed, bytesIn, bytesOut uint64
}

type namedCount struct {
	count   uint64
	example string
}

func newLive() *live {
	return &live{subscribers: make(map[*Subscriber]bool)}
}

// add shows Records everywhere.
func (l *live) add(batch *fieldgate.RecordBatch, records []fieldgate.Record, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range records {
		r := &records[i]
		exchange := Exchange{*r, batch.Node, string(fieldgate.AppendInstance(nil, batch.Node, batch.Epoch, r.Exchange))}
		if len(l.recent) < maxRecent {
			l.recent = append(l.recent, exchange)
		} else {
			l.recent[l.oldest] = exchange
			l.oldest = (l.oldest + 1) % maxRecent
		}
		l.countSecond(r, now.Unix())
		for subscriber := range l.subscribers {
			if subscriber.filter.matches(&exchange) {
				subscriber.offer(exchange)
			}
		}
	}
}

func (l *live) countSecond(r *fieldgate.Record, now int64) {
	at := min(r.Time.Add(r.Duration).Unix(), now)
	if at <= now-maxSeconds || at < 0 {
		return
	}
	s := &l.seconds[at%int64(len(l.seconds))]
	if s.at != at {
		*s = second{at: at, problems: make(map[string]namedCount), findings: make(map[string]namedCount)}
	}
	if r.Protocol < fieldgate.Protocols {
		p := &s.protocols[r.Protocol]
		p.exchanges++
		p.bytesIn += r.BytesIn
		p.bytesOut += r.BytesOut
		switch {
		case r.Status < 400:
			p.passed++
		case r.Status < 500:
			p.refused++
		default:
			p.failed++
		}
	}
	example := exampleOf(r)
	// A problem's code comes from a fixed list; the bound holds should a node send another.
	if r.Problem != "" && (len(s.problems) < 64 || s.problems[string(r.Problem)].count > 0) {
		s.problems[string(r.Problem)] = namedCount{s.problems[string(r.Problem)].count + 1, example}
	}
	for _, name := range r.Findings.Names() {
		s.findings[name] = namedCount{s.findings[name].count + 1, example}
	}
}

// newest lists remembered exchanges that came before the one named after, newest first.
func (l *live) newest(filter Filter, after string, limit int) (found []Exchange, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found = []Exchange{}
	begun := after == ""
	for back := 1; back <= len(l.recent); back++ {
		exchange := &l.recent[(l.oldest+len(l.recent)-back)%len(l.recent)]
		switch {
		case !begun:
			begun = exchange.Instance == after
		case !filter.matches(exchange):
		case len(found) == limit:
			return found, true
		default:
			found = append(found, *exchange)
		}
	}
	return found, false
}

// Subscriber receives exchanges as they happen. One that reads too slowly misses some; it is told how many.
type Subscriber struct {
	live      *live
	filter    Filter
	exchanges chan Exchange
	dropped   int // guarded by live.mu
}

func (s *Subscriber) offer(exchange Exchange) {
	select {
	case s.exchanges <- exchange:
	default:
		s.dropped++
	}
}

// Exchanges delivers until Close.
func (s *Subscriber) Exchanges() <-chan Exchange { return s.exchanges }

// Dropped is how many exchanges were left out since it was last asked.
func (s *Subscriber) Dropped() int {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	dropped := s.dropped
	s.dropped = 0
	return dropped
}

// Close ends the subscription.
func (s *Subscriber) Close() {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	delete(s.live.subscribers, s)
}

// Subscribe delivers the exchanges that a filter selects from now on.
func (i *Insight) Subscribe(filter Filter) (*Subscriber, error) {
	s := &Subscriber{live: i.live, filter: filter, exchanges: make(chan Exchange, subscriberBuffer)}
	i.live.mu.Lock()
	defer i.live.mu.Unlock()
	if len(i.live.subscribers) >= maxSubscribers {
		return nil, ErrTooManySubscribers
	}
	i.live.subscribers[s] = true
	return s, nil
}

// Exchange is one of the newest exchanges, by the name that problem details gave to it.
func (i *Insight) Exchange(instance string) (found Exchange, known bool) {
	l := i.live
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.IndexFunc(l.recent, func(e Exchange) bool { return e.Instance == instance })
	if at < 0 {
		return Exchange{}, false
	}
	return l.recent[at], true
}

// RecentPage is the newest exchanges that a filter selects, newest first: those that follow the exchange whose instance is after,
// and the after of the next page; empty when there is none. The newest maxRecent exchanges are remembered: what has left them ends the pages.
func (i *Insight) RecentPage(filter Filter, after string, limit int) (page []Exchange, next string) {
	page, more := i.live.newest(filter, after, limit)
	if more && len(page) > 0 {
		next = page[len(page)-1].Instance
	}
	return page, next
}

// Rates is what happened in the last seconds.
type Rates struct {
	Protocols []ProtocolRate // those that were used
	Problems  []NamedCount   // most frequent first
	Findings  []NamedCount   // most frequent first
}

// ProtocolRate is what happened over one protocol.
type ProtocolRate struct {
	Protocol                fieldgate.Protocol
	Exchanges               uint64
	Passed, Refused, Failed uint64
	BytesIn, BytesOut       uint64
}

// NamedCount is how often something happened, with an example.
type NamedCount struct {
	Name    string
	Count   uint64
	Example string
}

// Rates sums up the last seconds, at the most 300.
func (i *Insight) Rates(seconds int) Rates { return i.live.rates(seconds, time.Now().Unix()) }

func (l *live) rates(seconds int, now int64) (rates Rates) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var protocols [fieldgate.Protocols]ProtocolRate
	problems, findings := make(map[string]namedCount), make(map[string]namedCount)
	for at := now - int64(min(seconds, maxSeconds)) + 1; at <= now; at++ {
		s := &l.seconds[at%int64(len(l.seconds))]
		if s.at != at {
			continue
		}
		for i, p := range s.protocols {
			sum := &protocols[i]
			sum.Exchanges += p.exchanges
			sum.Passed += p.passed
			sum.Refused += p.refused
			sum.Failed += p.failed
			sum.BytesIn += p.bytesIn
			sum.BytesOut += p.bytesOut
		}
		addCounts(problems, s.problems)
		addCounts(findings, s.findings)
	}
	for i, p := range protocols {
		if p.Exchanges > 0 {
			p.Protocol = fieldgate.Protocol(i)
			rates.Protocols = append(rates.Protocols, p)
		}
	}
	rates.Problems, rates.Findings = mostFrequent(problems), mostFrequent(findings)
	return rates
}

func addCounts(sum, more map[string]namedCount) {
	for name, n := range more {
		if n.example == "" {
			n.example = sum[name].example
		}
		sum[name] = namedCount{sum[name].count + n.count, n.example}
	}
}

func mostFrequent(counts map[string]namedCount) []NamedCount {
	list := make([]NamedCount, 0, len(counts))
	for name, n := range counts {
		list = append(list, NamedCount{name, n.count, n.example})
	}
	slices.SortFunc(list, func(a, b NamedCount) int {
		if a.Count != b.Count {
			if a.Count > b.Count {
				return -1
			}
			return 1
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list
}
