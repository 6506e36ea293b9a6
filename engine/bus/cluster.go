package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Cluster says how to reach a NATS cluster. At most one kind of credential may be given. Files are read again at each
// connection, so that what they hold may be replaced at any time; white space around it does not count.
type Cluster struct {
	URLs string // of some or all servers, separated by commas: nats://host:4222, or tls://host:4222 for all; a name and password may stand before the host, the same for all
	Name string // of this node: in the cluster's monitoring, and of the subjects of answers to it (_INBOX.name.>), which permissions may name

	User, PasswordFile string // a name, and the file with its password
	TokenFile          string // a file with a token
	CredentialsFile    string // a .creds file: a user's JWT and its seed
	SeedFile           string // the seed of an NKey
	CAFile             string // PEM certificates to trust instead of the system's; the URLs must be tls://

	Log *slog.Logger
}

const (
	connectTimeout = 2 * time.Second // for one server
	reconnectWait  = 250 * time.Millisecond
	reconnectSpare = 250 * time.Millisecond // at random, so that not all nodes come at once

	// A server that was stopped or cut off is noticed within three pings.
	pingInterval = 3 * time.Second
	maxPings     = 2

	maxSecret = 64 << 10 // bytes of a file
)

// Connect connects to a cluster. It fails for settings that make no sense and for a cluster that is unsuitable
// (ErrUnsuitable). When no server answers, within 2 seconds each, it returns all the same, and connects when one does.
func Connect(cluster Cluster) (_ *Bus, err error) {
	b := &Bus{log: cluster.Log, look: make(chan struct{}, 1), growing: make(map[string]Stream)}
	b.health.problem, b.health.since = errors.New("no server has been reached yet"), time.Now()
	defer func() {
		if err != nil {
			b.Close()
			err = fmt.Errorf("connect to the bus: %w", err)
		}
	}()
	addresses, credentials, err := cluster.options()
	if err != nil {
		return nil, err
	}
	options := append(credentials,
		nats.Name(cluster.Name),
		nats.CustomInboxPrefix(inbox(cluster.Name)),
		nats.Timeout(connectTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectSpare, reconnectSpare),
		nats.ReconnectBufSize(-1), // what was given up and sent again must not follow from a buffer
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.ConnectHandler(func(*nats.Conn) { b.lookSoon() }),
		nats.ReconnectHandler(func(*nats.Conn) { b.lookSoon() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err == nil {
				err = errors.New("the connection was closed")
			}
			b.turn(err)
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.turn(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, subscription *nats.Subscription, err error) {
			subject := ""
			if subscription != nil {
				subject = subscription.Subject
			}
			b.log.Error("the bus reports an error", "error", err, "subscription", subject)
		}),
	)
	if b.connection, err = nats.Connect(addresses, options...); err != nil {
		return nil, err
	}
	if b.streams, err = jetstream.New(b.connection); err != nil {
		return nil, err
	}
	if b.connection.IsConnected() {
		problem := b.examine(context.Background())
		if errors.Is(problem, ErrUnsuitable) {
			return nil, problem
		}
		b.turn(problem)
	}
	if problem := b.Health(); problem != nil {
		b.log.Warn("the bus is away at the start; it is tried again until it answers", "error", problem)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stopWatch = stop
	b.watching.Go(func() { b.watch(ctx) })
	return b, nil
}

// inbox begins the subjects of answers to a node.
func inbox(name string) string {
	if name == "" {
		return "_INBOX"
	}
	return "_INBOX." + strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}

func (b *Bus) lookSoon() {
	select {
	case b.look <- struct{}{}:
	default:
	}
}

// options are the servers' addresses, without secrets, and what makes the servers let us in. No error names a secret.
func (c *Cluster) options() (addresses string, options []nats.Option, err error) {
	addresses, user, encrypted, err := readURLs(c.URLs)
	if err != nil {
		return "", nil, err
	}
	kinds := 0
	add := func(given bool, option func() (nats.Option, error)) {
		if !given || err != nil {
			return
		}
		var o nats.Option
		if o, err = option(); err == nil {
			kinds++
			options = append(options, o)
		}
	}
	add(user != nil, func() (nats.Option, error) {
		password, _ := user.Password()
		return nats.UserInfo(user.Username(), password), nil
	})
	add(c.User != "" || c.PasswordFile != "", func() (nats.Option, error) {
		if _, err := readSecret(c.PasswordFile); err != nil {
			return nil, err
		}
		return nats.UserInfoHandler(func() (string, string) { return c.User, c.secret(c.PasswordFile) }), nil
	})
	add(c.TokenFile != "", func() (nats.Option, error) {
		if _, err := readSecret(c.TokenFile); err != nil {
			return nil, err
		}
		return nats.TokenHandler(func() string { return c.secret(c.TokenFile) }), nil
	})
	add(c.CredentialsFile != "", func() (nats.Option, error) {
		if _, err := readSecret(c.CredentialsFile); err != nil {
			return nil, err
		}
		return nats.UserCredentials(c.CredentialsFile), nil
	})
	add(c.SeedFile != "", func() (nats.Option, error) {
		if _, err := readSecret(c.SeedFile); err != nil {
			return nil, err
		}
		option, err := nats.NkeyOptionFromSeed(c.SeedFile)
		if err != nil {
			return nil, fmt.Errorf("%s does not hold the seed of an NKey", c.SeedFile)
		}
		return option, nil
	})
	if err != nil {
		return "", nil, err
	}
	if kinds > 1 {
		return "", nil, errors.New("more than one kind of credential is given; choose one")
	}
	if c.CAFile != "" && !encrypted {
		return "", nil, errors.New("a CA file is given, but the addresses are not tls://")
	}
	if encrypted {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if c.CAFile != "" {
			pem, err := os.ReadFile(c.CAFile)
			if err != nil {
				return "", nil, err
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return "", nil, fmt.Errorf("%s holds no PEM certificate", c.CAFile)
			}
		}
		options = append(options, nats.Secure(config))
	}
	return addresses, options, nil
}

// readURLs checks the addresses and takes the credential out of them, so that it is in nothing that is ever printed, and serves
// for the servers too that the cluster tells of.
func readURLs(urls string) (addresses string, user *url.Userinfo, encrypted bool, err error) {
	var hosts []string
	for i, text := range strings.Split(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Hostname() == "" || u.Scheme != "nats" && u.Scheme != "tls" || strings.Trim(u.Path, "/") != "" {
			return "", nil, false, fmt.Errorf("address %d of the bus is none of the form nats://host:4222 or tls://host:4222", i+1)
		}
		if i > 0 && encrypted != (u.Scheme == "tls") {
			return "", nil, false, errors.New("the addresses of the bus are nats:// and tls://; use one for all")
		}
		encrypted = u.Scheme == "tls"
		if u.User != nil {
			if user != nil && user.String() != u.User.String() {
				return "", nil, false, errors.New("the addresses of the bus have different names or passwords; use one for all")
			}
			user = u.User
		}
		hosts = append(hosts, (&url.URL{Scheme: u.Scheme, Host: u.Host}).String())
	}
	return strings.Join(hosts, ","), user, encrypted, nil
}

func readSecret(path string) (string, error) {
	if path == "" {
		return "", errors.New("a name is given for the bus, but no file with its password")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if len(content) > maxSecret {
		return "", fmt.Errorf("%s is too large to hold a credential", path)
	}
	return strings.TrimSpace(string(content)), nil
}

// secret is what the file holds now. When it cannot be read the server refuses us, which is tried again.
func (c *Cluster) secret(path string) string {
	secret, err := readSecret(path)
	if err != nil {
		c.Log.Error("the credential for the bus cannot be read", "error", err)
	}
	return secret
}
