package insight

import (
	"errors"
	"iter"
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
	*fieldgate.Record        // is not changed
	Node              string // gateway
	Instance          string
}

// live holds the newest exchanges, the counts of the last seconds, and who listens.
type live struct {
	mu          sync.Mutex
	recent      []shown // oldest first
	remembered  int     // exchanges in recent; maxRecent, and what is left of the oldest shown
	seconds     [maxSeconds + 1]second
	subscribers map[*Subscriber]bool
}

// shown is the Records of one batch.
type shown struct {
	node    string
	epoch   uint64
	records []fieldgate.Record
}

func (s *shown) exchange(r *fieldgate.Record) Exchange {
	return Exchange{r, s.node, string(fieldgate.AppendInstance(nil, s.node, s.epoch, r.Exchange))}
}

// second is what happened within one second.
type second struct {
	at        int64 // seconds since 1970
	protocols [fieldgate.Protocols]protocolCount
	problems  map[string]namedCount
	findings  [findingKinds]namedCount
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
	if len(records) == 0 {
		return
	}
	newest := shown{batch.Node, batch.Epoch, records}
	l.recent = append(l.recent, newest)
	for l.remembered += len(records); l.remembered-len(l.recent[0].records) >= maxRecent; {
		l.remembered -= len(l.recent[0].records)
		l.recent[0] = shown{} // the array behind the slice lives on
		l.recent = l.recent[1:]
	}
	for i := range records {
		l.countSecond(&records[i], now.Unix())
	}
	if len(l.subscribers) == 0 {
		return
	}
	for i := range records {
		exchange := newest.exchange(&records[i])
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
		*s = second{at: at, problems: make(map[string]namedCount)}
	}
	n := r.Exchanges()
	if r.Protocol < fieldgate.Protocols {
		p := &s.protocols[r.Protocol]
		p.exchanges += n
		p.bytesIn += r.BytesIn
		p.bytesOut += r.BytesOut
		switch {
		case r.Status < 400:
			p.passed += n
		case r.Status < 500:
			p.refused += n
		default:
			p.failed += n
		}
	}
	example := exampleOf(r)
	// A problem's code comes from a fixed list; the bound holds should a node send another.
	if r.Problem != "" && (len(s.problems) < 64 || s.problems[string(r.Problem)].count > 0) {
		s.problems[string(r.Problem)] = namedCount{s.problems[string(r.Problem)].count + n, example}
	}
	for kind := range findingsOf(r) {
		s.findings[kind] = namedCount{s.findings[kind].count + n, example}
	}
}

// newest lists remembered exchanges that came before the one named after, newest first.
func (l *live) newest(filter Filter, after string, limit int) (found []Exchange, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found = []Exchange{}
	begun := after == ""
	for s, r := range l.backwards() {
		exchange := Exchange{Record: r, Node: s.node}
		switch {
		case !begun:
			begun = s.is(r, after)
		case !filter.matches(&exchange):
		case len(found) == limit:
			return found, true
		default:
			found = append(found, s.exchange(r))
		}
	}
	return found, false
}

// backwards yields the exchanges that are remembered, newest first.
func (l *live) backwards() iter.Seq2[*shown, *fieldgate.Record] {
	return func(yield func(*shown, *fieldgate.Record) bool) {
		left := maxRecent
		for i := len(l.recent) - 1; i >= 0; i-- {
			s := &l.recent[i]
			for r := len(s.records) - 1; r >= 0 && left > 0; r-- {
				if left--; !yield(s, &s.records[r]) {
					return
				}
			}
		}
	}
}

// is says whether an instance names the exchange of a Record.
func (s *shown) is(r *fieldgate.Record, instance string) bool {
	var name [fieldgate.MaxIdentifierBytes + 32]byte
	return instance == string(fieldgate.AppendInstance(name[:0], s.node, s.epoch, r.Exchange))
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
	for s, r := range l.backwards() {
		if s.is(r, instance) {
			return s.exchange(r), true
		}
	}
	return Exchange{}, false
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
		for name, n := range s.problems {
			addCount(problems, name, n)
		}
		for kind, n := range s.findings {
			if n.count > 0 {
				addCount(findings, findingNames[kind], n)
			}
		}
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

func addCount(sum map[string]namedCount, name string, n namedCount) {
	if n.example == "" {
		n.example = sum[name].example
	}
	sum[name] = namedCount{sum[name].count + n.count, n.example}
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
