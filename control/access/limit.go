package access

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate/control/refusal"
)

// limitSlots bounds the memory of a limiter: keys that share a slot share its limit.
const limitSlots = 1 << 14

// limiter lets so many failures of a key pass at once, and one more each interval (GCRA, ITU-T I.371 annex A).
type limiter struct {
	burst    int
	interval time.Duration

	mu    sync.Mutex
	seed  maphash.Seed
	slots [limitSlots]time.Time // when the slot will be as good as new
}

func newLimiter(burst int, interval time.Duration) *limiter {
	return &limiter{burst: burst, interval: interval, seed: maphash.MakeSeed()}
}

func (l *limiter) slot(key string) *time.Time {
	return &l.slots[maphash.String(l.seed, key)%limitSlots]
}

// take counts one attempt as a failure; it is how long to wait, and counts nothing, when there were too many. restore takes it
// back.
func (l *limiter) take(key string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slot := l.slot(key)
	next, wait := l.next(slot, now)
	if wait <= 0 {
		*slot = next
	}
	return max(wait, 0)
}

// wait is how long a key has to wait; it counts nothing.
func (l *limiter) wait(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, wait := l.next(l.slot(key), now)
	return max(wait, 0)
}

func (l *limiter) next(slot *time.Time, now time.Time) (next time.Time, wait time.Duration) {
	next = now
	if slot.After(now) {
		next = *slot
	}
	next = next.Add(l.interval)
	return next, next.Sub(now) - time.Duration(l.burst)*l.interval
}

func (l *limiter) restore(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slot := l.slot(key)
	*slot = slot.Add(-l.interval)
}

// limits bound what a guesser costs and learns. A source may be shared by many people, and a name is attacked from many
// sources, so that neither bound is strict.
type limits struct {
	passwordSource *limiter
	passwordName   *limiter
	secretSource   *limiter // tokens and cookies, which cannot be guessed: only what a look-up costs
	known          known    // tokens and cookies that were right: what others do at their source does not shut them out

	// Refused sign-ins are rows of the audit that anybody can cause: what comes on top is only counted.
	refusals *limiter
	unlisted atomic.Int64
}

// known remembers some of the secrets that were right, by the beginning of their SHA-256. It lets them be looked up, and no more.
type known [1 << 12]atomic.Uint64

func (k *known) slot(hash []byte) (slot *atomic.Uint64, begin uint64) {
	begin = binary.LittleEndian.Uint64(hash)
	return &k[begin%uint64(len(k))], begin
}

func (k *known) add(hash []byte) {
	slot, begin := k.slot(hash)
	slot.Store(begin)
}

func (k *known) has(hash []byte) bool {
	slot, begin := k.slot(hash)
	return slot.Load() == begin
}

func newLimits() *limits {
	return &limits{
		passwordSource: newLimiter(10, 15*time.Second),
		passwordName:   newLimiter(50, 10*time.Second),
		secretSource:   newLimiter(60, time.Second),
		refusals:       newLimiter(1000, 10*time.Second),
	}
}

// password counts an attempt to sign in; restore takes it back when it was right.
func (l *limits) password(source, name string, now time.Time) (restore func(), err error) {
	source = network(source)
	if wait := l.passwordSource.take(source, now); wait > 0 {
		return nil, tooMany(wait)
	}
	if wait := l.passwordName.take(name, now); wait > 0 {
		l.passwordSource.restore(source)
		return nil, tooMany(wait)
	}
	return func() { l.passwordSource.restore(source); l.passwordName.restore(name) }, nil
}

// secret refuses a source that has presented too many wrong tokens. Right ones are not counted, however many at once.
func (l *limits) secret(source string, now time.Time) error {
	if wait := l.secretSource.wait(network(source), now); wait > 0 {
		return tooMany(wait)
	}
	return nil
}

// list says whether a refused sign-in gets a row of the audit, and counts it where it gets none.
func (l *limits) list(now time.Time) bool {
	if l.refusals.take("", now) > 0 {
		l.unlisted.Add(1)
		return false
	}
	return true
}

func (l *limits) secretFailed(source string, now time.Time) {
	l.secretSource.take(network(source), now)
}

func tooMany(wait time.Duration) error {
	return &refusal.Error{Code: refusal.CodeRateLimited, RetryAfter: wait,
		Detail: "There were too many failed attempts: wait a little, then try again."}
}

// network is what one party holds of the Internet: an IPv4 address, or a /64 of IPv6.
func network(source string) string {
	address, err := netip.ParseAddr(source)
	if err != nil || address.Is4() || address.Is4In6() {
		return source
	}
	prefix, err := address.Prefix(64)
	if err != nil {
		return source
	}
	return prefix.String()
}
