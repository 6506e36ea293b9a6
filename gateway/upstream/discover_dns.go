package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// resolver asks DNS servers. The one of the Go library says nothing of the time that an answer lives.
type resolver struct {
	servers []string // host:port
	search  *dns.ClientConfig
}

const (
	resolverFile    = "/etc/resolv.conf"
	questionTimeout = 2 * time.Second // for each server
)

func newResolver(server string) (*resolver, error) {
	if server != "" {
		return &resolver{servers: []string{server}}, nil
	}
	config, err := dns.ClientConfigFromFile(resolverFile)
	if err != nil {
		return nil, fmt.Errorf("DNS servers: %w", err)
	}
	r := &resolver{search: config}
	for _, address := range config.Servers {
		r.servers = append(r.servers, net.JoinHostPort(address, config.Port))
	}
	if len(r.servers) == 0 {
		return nil, fmt.Errorf("%s names no DNS server", resolverFile)
	}
	return r, nil
}

// names are what a name may mean: with the domains of resolv.conf, if it is short.
func (r *resolver) names(name string) []string {
	if r.search == nil {
		return []string{dns.Fqdn(name)}
	}
	return r.search.NameList(name)
}

// ask asks the servers in turn until one gives an answer that counts: one with records, or that there are none.
func (r *resolver) ask(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	question := new(dns.Msg)
	question.SetQuestion(name, kind)
	question.SetEdns0(dns.DefaultMsgSize, false)
	var failure error
	for _, server := range r.servers {
		answer, err := exchange(ctx, question, server)
		if err == nil {
			return answer, nil
		}
		failure = err
	}
	return nil, fmt.Errorf("DNS, %s of %s: %w", dns.TypeToString[kind], strings.TrimSuffix(name, "."), failure)
}

func exchange(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	client := dns.Client{Net: "udp", Timeout: questionTimeout, UDPSize: dns.DefaultMsgSize}
	answer, _, err := client.ExchangeContext(ctx, question, server)
	if err == nil && answer.Truncated { // RFC 7766 §5: ask again over TCP
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, question, server)
	}
	switch {
	case err != nil:
		return nil, err
	case len(answer.Question) != 1 || answer.Question[0].Qtype != question.Question[0].Qtype ||
		!strings.EqualFold(answer.Question[0].Name, question.Question[0].Name):
		return nil, errors.New("the answer is to another question")
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("the server answers %s", dns.RcodeToString[answer.Rcode])
	}
	return answer, nil
}
