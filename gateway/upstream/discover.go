package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"fieldgate"
)

// Bounds of the time after which DNS is asked again. The answer's own time to live lies between.
const (
	minTTL      = time.Second
	maxTTL      = 5 * time.Minute
	retryLookup = 5 * time.Second // after a failure
)

// checkDiscovery checks the settings; it asks nobody.
func checkDiscovery(d fieldgate.Discovery) error {
	if d.DNS != "" && d.SRV != "" {
		return errors.New("its addresses are discovered by either dns or srv, not both")
	}
	if d.Server != "" {
		host, _, err := net.SplitHostPort(d.Server)
		if err != nil || net.ParseIP(host) == nil {
			return fmt.Errorf("the DNS server %q is not of the form 10.0.0.2:53", d.Server)
		}
	}
	for _, text := range []string{d.DNS, d.SRV} {
		if text == "" {
			continue
		}
		e, err := parseAddress(text)
		if err != nil {
			return err
		}
		if _, ok := dns.IsDomainName(e.name); !ok || net.ParseIP(e.name) != nil {
			return fmt.Errorf("%q is no name that DNS can look up", e.name)
		}
		if text == d.SRV && e.authority != e.name {
			return fmt.Errorf("%q: SRV records say the port, so there is none here", text)
		}
	}
	return nil
}

// discover asks DNS for the addresses until ctx ends, each time when the last answer has lived its time. A failure, or an answer
// without addresses, leaves the addresses as they are and is shown in the state. Where only one of A and AAAA failed, the other counts.
func (u *Upstream) discover(ctx context.Context) {
	for {
		candidates, ttl, err := u.lookUp(ctx)
		if ctx.Err() != nil {
			return
		}
		u.found(candidates, err)
		wait := retryLookup
		if err == nil {
			wait = min(max(ttl, minTTL), maxTTL)
		}
		wait += time.Duration(rand.Int64N(int64(wait) / 10)) // gateways do not ask all at once
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (u *Upstream) found(candidates []candidate, err error) {
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	if u.successor.Load() != nil { // which asks for itself
		return
	}
	u.problem = ""
	if err != nil {
		u.problem = err.Error()
	}
	if len(candidates) == 0 {
		return
	}
	now := time.Now()
	u.discovered = now
	u.setSource(discovered, candidates, now)
}

// setSource takes over what a source of members says, if that is something new; the caller holds the lock. DNS servers change the
// order of their answers to spread clients; here it does not count.
func (u *Upstream) setSource(source int, candidates []candidate, now time.Time) {
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.target.Address, b.target.Address) })
	if !slices.Equal(candidates, u.sources[source]) {
		u.sources[source] = candidates
		u.update(now)
	}
}

// Registered names the upstreams that take addresses which services register.
func (s *Set) Registered() (names []string) {
	for name, u := range *s.upstreams.Load() {
		if u.Config.Discovery.Registered {
			names = append(names, name)
		}
	}
	return names
}

// SetTargets takes over the addresses that services have registered for an upstream. What is wrong with one of them leaves out that
// one and is said.
func (s *Set) SetTargets(upstream string, targets []fieldgate.Target) error {
	u := s.Upstream(upstream)
	if u == nil {
		return fmt.Errorf("there is no upstream %s", upstream)
	}
	var wrong []error
	var candidates []candidate
	for _, target := range targets[:min(len(targets), fieldgate.MaxTargets)] {
		c, err := newCandidate(target)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		candidates = append(candidates, c)
	}
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	u = u.latest()
	if !u.Config.Discovery.Registered {
		return fmt.Errorf("upstream %s takes no registered addresses", upstream)
	}
	u.setSource(registered, candidates, time.Now())
	return errors.Join(wrong...)
}

// lookUp asks DNS for the addresses of the upstream.
func (u *Upstream) lookUp(ctx context.Context) ([]candidate, time.Duration, error) {
	d := &u.Config.Discovery
	r, err := newResolver(d.Server)
	if err != nil {
		return nil, 0, err
	}
	text := d.DNS
	if d.SRV != "" {
		text = d.SRV
	}
	base, err := parseAddress(text)
	if err != nil {
		return nil, 0, err
	}
	l := &lookup{base: base, ttl: maxTTL}
	if d.SRV != "" {
		err = l.services(ctx, r)
	} else {
		_, port, _ := net.SplitHostPort(base.dial)
		err = l.hosts(ctx, r, r.names(base.name), port, base.authority, fieldgate.Target{Weight: 1})
	}
	if err == nil && len(l.candidates) == 0 {
		err = fmt.Errorf("DNS has no address for %s", base.name)
	}
	if err != nil {
		return nil, 0, err
	}
	return l.candidates, l.ttl, l.partly
}

// lookup gathers the addresses that one round of questions finds.
type lookup struct {
	base       endpoint
	candidates []candidate
	ttl        time.Duration // the shortest of all answers
	partly     error         // why one of A and AAAA is missing
}

// services asks for SRV records (RFC 2782), then for the addresses of their targets.
func (l *lookup) services(ctx context.Context, r *resolver) error {
	for _, name := range r.names(l.base.name) {
		answer, err := r.ask(ctx, name, dns.TypeSRV)
		if err != nil {
			return err
		}
		for _, record := range answer.Answer {
			l.ttl = min(l.ttl, seconds(record))
			srv, ok := record.(*dns.SRV)
			if !ok || srv.Target == "." || !fieldgate.HostCharacters(srv.Target) || len(l.candidates) >= fieldgate.MaxTargets { // ".": it is not to be had here
				continue
			}
			target := fieldgate.Target{Priority: int(srv.Priority), Weight: max(int(srv.Weight), 1)}
			port := strconv.Itoa(int(srv.Port))
			authority := net.JoinHostPort(strings.TrimSuffix(srv.Target, "."), port)
			if err := l.hosts(ctx, r, []string{srv.Target}, port, authority, target); err != nil {
				return err
			}
		}
		if len(l.candidates) > 0 {
			l.fit()
			return nil
		}
	}
	return nil
}

// fit brings priorities and weights, which are 0 to 65535 in SRV records, into our range. Only the order of the priorities and the
// proportion of the weights matter.
func (l *lookup) fit() {
	var priorities []int
	heaviest := 0
	for i := range l.candidates {
		priorities = append(priorities, l.candidates[i].target.Priority)
		heaviest = max(heaviest, l.candidates[i].target.Weight)
	}
	slices.Sort(priorities)
	priorities = slices.Compact(priorities)
	for i := range l.candidates {
		target := &l.candidates[i].target
		rank, _ := slices.BinarySearch(priorities, target.Priority)
		target.Priority = min(rank, fieldgate.MaxPriority)
		if heaviest > fieldgate.MaxWeight {
			target.Weight = max(1, target.Weight*fieldgate.MaxWeight/heaviest)
		}
	}
}

// hosts asks for A and AAAA records (RFC 1035 §3.4.1, RFC 3596) of the names, until one has any. There are servers that fail for AAAA
// records alone (RFC 4074): the addresses that are known will do then.
func (l *lookup) hosts(ctx context.Context, r *resolver, names []string, port, authority string, target fieldgate.Target) error {
	before := len(l.candidates)
	for _, name := range names {
		var failure error
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			answer, err := r.ask(ctx, name, kind)
			if err != nil {
				failure = err
				continue
			}
			for _, record := range answer.Answer {
				l.ttl = min(l.ttl, seconds(record))
				switch record := record.(type) {
				case *dns.A:
					l.add(record.A, port, authority, target)
				case *dns.AAAA:
					l.add(record.AAAA, port, authority, target)
				}
			}
		}
		switch {
		case len(l.candidates) > before:
			l.partly = cmp.Or(l.partly, failure)
			return nil
		case failure != nil:
			return failure
		}
	}
	return nil
}

func (l *lookup) add(ip net.IP, port, authority string, target fieldgate.Target) {
	if len(l.candidates) >= fieldgate.MaxTargets {
		return
	}
	e := l.base
	e.dial = net.JoinHostPort(ip.String(), port)
	e.authority = authority
	e.name = authority
	if host, _, err := net.SplitHostPort(authority); err == nil {
		e.name = host
	}
	target.Address = (&url.URL{Scheme: string(e.scheme), Host: e.dial}).String()
	l.candidates = append(l.candidates, candidate{e, target})
}

func seconds(record dns.RR) time.Duration { return time.Duration(record.Header().Ttl) * time.Second }
