package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"fieldgate"
)

// dnsServer is a real DNS server on loopback whose records a test changes.
type dnsServer struct {
	address string

	mu      sync.Mutex
	records map[string][]string // by name and type; an absent name does not exist
	rcode   int                 // of all answers, if not success
	failing string              // type of record whose answers are SERVFAIL
	asked   int
}

func newDNS(t *testing.T) *dnsServer {
	t.Helper()
	var link net.PacketConn
	var listener net.Listener
	for listener == nil { // a port that is free for both
		var err error
		if link, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if listener, err = net.Listen("tcp", link.LocalAddr().String()); err != nil {
			link.Close()
		}
	}
	d := &dnsServer{address: link.LocalAddr().String(), records: make(map[string][]string)}
	for _, server := range []*dns.Server{{PacketConn: link, Handler: d}, {Listener: listener, Handler: d}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			server.Shutdown()
			<-ended
		})
	}
	return d
}

func (d *dnsServer) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	answer := new(dns.Msg)
	answer.SetRcode(question, d.rcode)
	q := question.Question[0]
	if dns.TypeToString[q.Qtype] == d.failing {
		answer.Rcode = dns.RcodeServerFailure
	}
	for key, records := range d.records {
		if strings.HasPrefix(key, strings.ToLower(q.Name)+" ") && answer.Rcode == dns.RcodeSuccess && key == strings.ToLower(q.Name)+" "+dns.TypeToString[q.Qtype] {
			for _, text := range records {
				record, err := dns.NewRR(text)
				if err != nil {
					panic(err)
				}
				answer.Answer = append(answer.Answer, record)
			}
		}
	}
	if len(answer.Answer) == 0 && d.rcode == dns.RcodeSuccess && len(d.records) == 0 {
		answer.Rcode = dns.RcodeNameError
	}
	if _, overUDP := w.RemoteAddr().(*net.UDPAddr); overUDP {
		answer.Truncate(512)
	}
	w.WriteMsg(answer)
}

func (d *dnsServer) set(rcode int, records map[string][]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rcode, d.records = rcode, records
}

func (d *dnsServer) upstream(t *testing.T, discovery fieldgate.Discovery) *Upstream {
	discovery.Server = d.address
	return newSet(t, fieldgate.Upstream{Algorithm: fieldgate.AlgorithmWeighted, Discovery: discovery})
}

// once asks as Run would, once.
func once(t *testing.T, u *Upstream) time.Duration {
	candidates, ttl, err := u.lookUp(t.Context())
	u.found(candidates, err)
	return ttl
}

func membersOf(u *Upstream) (list []string) {
	for _, a := range u.state(time.Now()).Addresses {
		list = append(list, fmt.Sprintf("%s %d %d", a.Address, a.Priority, a.Weight))
	}
	slices.Sort(list)
	return list
}

func TestDiscoverByName(t *testing.T) {
	d := newDNS(t)
	u := d.upstream(t, fieldgate.Discovery{DNS: "http://ingest.test:9000"})
	if _, err := get(u); codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
		t.Errorf("before DNS has answered: %v", err)
	}
	d.set(dns.RcodeSuccess, map[string][]string{
		"ingest.test. A":    {"ingest.test. 30 IN CNAME a.test.", "a.test. 7 IN A 10.0.0.1", "a.test. 20 IN A 10.0.0.2"},
		"ingest.test. AAAA": {"ingest.test. 60 IN AAAA fd00::1"},
	})
	ttl := once(t, u)
	want := []string{"http://10.0.0.1:9000 0 1", "http://10.0.0.2:9000 0 1", "http://[fd00::1]:9000 0 1"}
	if got := membersOf(u); !slices.Equal(got, want) || ttl != 7*time.Second {
		t.Errorf("%v, for %v", got, ttl)
	}
	if a := u.addresses()[0]; a.authority != "ingest.test:9000" || a.dial != "10.0.0.1:9000" || a.name != "ingest.test" {
		t.Errorf("it is called %s at %s, its certificate is for %s", a.authority, a.dial, a.name)
	}
	stays, pool := u.addresses()[1], u.pool.Load()
	d.set(dns.RcodeSuccess, map[string][]string{
		"ingest.test. A":    {"ingest.test. 7 IN A 10.0.0.2", "ingest.test. 7 IN A 10.0.0.1"},
		"ingest.test. AAAA": {"ingest.test. 60 IN AAAA fd00::1"},
	})
	if once(t, u); u.pool.Load() != pool {
		t.Error("the same addresses in another order are taken for a change")
	}
	for name, change := range map[string]func(){
		"the server fails":        func() { d.set(dns.RcodeServerFailure, nil) },
		"the name does not exist": func() { d.set(dns.RcodeSuccess, nil) },
		"no address": func() {
			d.set(dns.RcodeSuccess, map[string][]string{"ingest.test. TXT": {`ingest.test. 1 IN TXT "x"`}})
		},
	} {
		change()
		once(t, u)
		if state := u.state(time.Now()); len(state.Addresses) != 3 || state.Problem == "" || state.Discovered.IsZero() {
			t.Errorf("%s: %+v", name, state)
		}
	}
	d.set(dns.RcodeSuccess, map[string][]string{"ingest.test. A": {"ingest.test. 5 IN A 10.0.0.2", "ingest.test. 5 IN A 10.0.0.3"}})
	once(t, u)
	if got := membersOf(u); !slices.Equal(got, []string{"http://10.0.0.2:9000 0 1", "http://10.0.0.3:9000 0 1"}) || u.state(time.Now()).Problem != "" {
		t.Errorf("%v", got)
	}
	if u.addresses()[0] != stays {
		t.Error("an address that stays lost its connections")
	}
}

// RFC 2782: ports, priorities in their order, weights in proportion; a target of "." is none, nor is one that is no host name.
func TestDiscoverServices(t *testing.T) {
	d := newDNS(t)
	d.set(dns.RcodeSuccess, map[string][]string{
		"_ingest._tcp.test. SRV": {"_ingest._tcp.test. 40 IN SRV 10 60000 9001 a.test.", "_ingest._tcp.test. 40 IN SRV 10 6000 9002 b.test.",
			"_ingest._tcp.test. 40 IN SRV 20 0 9003 b.test.", "_ingest._tcp.test. 40 IN SRV 0 0 0 .",
			`_ingest._tcp.test. 40 IN SRV 0 0 80 a\013\010b.test.`, "_ingest._tcp.test. 40 IN SRV 0 0 80 a/b.test."},
		"a.test. A": {"a.test. 30 IN A 10.0.0.1"},
		"b.test. A": {"b.test. 50 IN A 10.0.0.2"},
	})
	u := d.upstream(t, fieldgate.Discovery{SRV: "https://_ingest._tcp.test"})
	ttl := once(t, u)
	want := []string{"https://10.0.0.1:9001 0 1000", "https://10.0.0.2:9002 0 100", "https://10.0.0.2:9003 1 1"}
	if got := membersOf(u); !slices.Equal(got, want) || ttl != 30*time.Second {
		t.Errorf("%v, for %v", got, ttl)
	}
	if a := u.addresses()[0]; a.authority != "a.test:9001" || a.name != "a.test" || !a.scheme.Secure() {
		t.Errorf("%+v", a.endpoint)
	}
}

// RFC 7766 §5: an answer that does not fit a datagram is asked for again over TCP; no more addresses are taken than there may be.
func TestDiscoverMany(t *testing.T) {
	d := newDNS(t)
	var records []string
	for i := range 1100 {
		records = append(records, fmt.Sprintf("ingest.test. 30 IN A 10.1.%d.%d", i/250, i%250))
	}
	d.set(dns.RcodeSuccess, map[string][]string{"ingest.test. A": records})
	u := d.upstream(t, fieldgate.Discovery{DNS: "http://ingest.test"})
	once(t, u)
	if n := len(u.addresses()); n != fieldgate.MaxTargets {
		t.Errorf("%d addresses", n)
	}
}

// Run asks DNS, and calls reach what it says; when Run ends, all that it started has ended.
func TestRunDiscovers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Host", r.Host) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	d := newDNS(t)
	d.set(dns.RcodeSuccess, map[string][]string{"ingest.test. A": {"ingest.test. 1 IN A 127.0.0.1"}})
	s, err := NewSet([]fieldgate.Upstream{{Name: "ingest", Discovery: fieldgate.Discovery{DNS: "http://ingest.test:" + port, Server: d.address}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		s.Run(ctx)
		close(ended)
	}()
	for len(s.Upstream("ingest").addresses()) == 0 {
		time.Sleep(time.Millisecond)
	}
	answer, err := get(s.Upstream("ingest"))
	if err != nil || answer.Field("X-Host") != "ingest.test:"+port {
		t.Errorf("%v, %v", answer, err)
	}
	for asked := 0; asked < 4; { // of A and AAAA, twice: the time to live is over after a second
		d.mu.Lock()
		asked = d.asked
		d.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
}

// Short names are completed as /etc/resolv.conf says (resolv.conf(5): search, ndots); a server of our own takes them as they are.
func TestSearchDomains(t *testing.T) {
	config, err := dns.ClientConfigFromReader(strings.NewReader("search plant.test\nnameserver 10.0.0.2\noptions ndots:1\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{search: config}
	if got := r.names("ingest"); !slices.Equal(got, []string{"ingest.plant.test.", "ingest."}) {
		t.Errorf("a short name means %v", got)
	}
	if got := r.names("ingest.other.test"); got[0] != "ingest.other.test." {
		t.Errorf("a long name means %v", got)
	}
	if r, err = newResolver("10.0.0.2:53"); err != nil || !slices.Equal(r.names("ingest"), []string{"ingest."}) {
		t.Errorf("%v, %v", r, err)
	}
}

func TestRegisteredTargets(t *testing.T) {
	s, err := NewSet([]fieldgate.Upstream{{Name: "a", Addresses: []string{"http://10.0.0.1"}, Discovery: fieldgate.Discovery{Registered: true}},
		{Name: "b", Addresses: []string{"http://10.0.0.1"}}})
	if err != nil {
		t.Fatal(err)
	}
	if s.SetTargets("c", nil) == nil || s.SetTargets("b", nil) == nil {
		t.Error("targets of an upstream that takes none")
	}
	err = s.SetTargets("a", []fieldgate.Target{{Address: "http://10.0.0.2", Weight: 3, Zone: "z"}, {Address: "nonsense"}, {Address: "http://10.0.0.1"},
		{Address: "http://10.0.0.3", Weight: fieldgate.MaxWeight + 1}, {Address: "http://10.0.0.3", Priority: -1}})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("what is said of wrong ones: %v", err)
	}
	if got := membersOf(s.Upstream("a")); !slices.Equal(got, []string{"http://10.0.0.1 0 1", "http://10.0.0.2 0 3"}) {
		t.Errorf("%v", got)
	}
	if err := s.SetTargets("a", nil); err != nil || len(s.Upstream("a").addresses()) != 1 {
		t.Errorf("%v", err)
	}
}

func TestDiscoveryIsChecked(t *testing.T) {
	for _, d := range []fieldgate.Discovery{{DNS: "ingest.test"}, {DNS: "http://10.0.0.1"}, {SRV: "http://_a._tcp.test:80"}, {DNS: "http://a", SRV: "http://b"},
		{DNS: "http://a", Server: "dns.test:53"}, {DNS: "http://a", Server: "10.0.0.1"}} {
		if _, err := NewSet([]fieldgate.Upstream{{Name: "x", Discovery: d}}); err == nil {
			t.Errorf("%+v was accepted", d)
		}
	}
}

// There are DNS servers that fail for AAAA records (RFC 4074 §4), or for a time for one kind of record: the addresses of the other count.
func TestDiscoveryWhereOneKindOfRecordFails(t *testing.T) {
	d := newDNS(t)
	u := d.upstream(t, fieldgate.Discovery{DNS: "http://ingest.test:9000"})
	d.set(dns.RcodeSuccess, map[string][]string{"ingest.test. A": {"ingest.test. 30 IN A 10.0.0.1"}, "ingest.test. AAAA": {"ingest.test. 30 IN AAAA fd00::1"}})
	for _, test := range []struct{ failing, want string }{{"AAAA", "http://10.0.0.1:9000 0 1"}, {"A", "http://[fd00::1]:9000 0 1"}} {
		d.mu.Lock()
		d.failing = test.failing
		d.mu.Unlock()
		once(t, u)
		if got := membersOf(u); !slices.Equal(got, []string{test.want}) || u.problem == "" {
			t.Errorf("%s fails: %v, %q", test.failing, got, u.problem)
		}
	}
}
