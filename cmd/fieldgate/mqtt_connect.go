package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"fieldgate/protocol/mqtt"
)

// tokenVariable is the environment variable that holds the token of the device or app that publishes or subscribes.
const tokenVariable = "FIELDGATE_TOKEN"

// answerTimeout bounds connecting.
const answerTimeout = 15 * time.Second

// mqttFlags say how mqtt pub and mqtt sub connect.
type mqttFlags struct {
	environment                                    func() string // path of the environment file
	host, ca, tokenFile, username, client, version string
	port                                           int
	tls                                            bool
	keepAlive, expiry                              time.Duration
}

func (f *mqttFlags) add(c *cli, command *cobra.Command) {
	f.environment = c.environmentPath
	flags := command.Flags()
	flags.StringVar(&f.host, "host", "", "the gateway (default the one of the environment file, else 127.0.0.1)")
	flags.IntVar(&f.port, "port", 0, "its MQTT port (default that of the environment file, else 1883, with --tls 8883)")
	flags.BoolVar(&f.tls, "tls", false, "connect over TLS")
	flags.StringVar(&f.ca, "ca", "", "PEM file of the authority of the gateway's certificate, where the system does not know it; means --tls")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the token of the device or app (default $"+tokenVariable+", else it is asked for)")
	flags.StringVar(&f.username, "username", "", "user name, where one is wanted besides the token")
	flags.StringVar(&f.client, "client-id", "", "client identifier (default one that the gateway makes)")
	flags.StringVar(&f.version, "mqtt-version", "5", "5 or 3.1.1; with 3.1.1 nobody is told of a refusal")
	flags.DurationVar(&f.keepAlive, "keep-alive", time.Minute, "the longest silence")
	flags.DurationVar(&f.expiry, "session-expiry", 0, "resume the session of --client-id, and let it outlive this connection for so long")
}

// dial connects. notes are for the person who is asked for a token.
func (f *mqttFlags) dial(ctx context.Context, notes io.Writer, receive func(*mqtt.Publish)) (*mqtt.Client, error) {
	f.place()
	options := mqtt.ClientOptions{ClientID: f.client, Username: f.username, KeepAlive: uint16(f.keepAlive / time.Second), Receive: receive, PacketSize: 16 << 20}
	switch {
	case f.version == "5":
		options.Version = mqtt.V5
	case f.version == "3.1.1":
		options.Version = mqtt.V311
	default:
		return nil, usagef("--mqtt-version is 5 or 3.1.1")
	}
	if f.keepAlive < 0 || f.keepAlive > 65535*time.Second {
		return nil, usagef("--keep-alive is 0s to 18h12m15s")
	}
	if f.expiry < 0 || f.expiry > 0 && f.client == "" {
		return nil, usagef("--session-expiry needs --client-id, by which the session is found again")
	}
	if f.expiry > 0 {
		options.Resume = true
		options.Properties.SetNumber(mqtt.SessionExpiryInterval, uint32(min(f.expiry/time.Second, neverExpires)))
	}
	var err error
	if options.Password, err = f.token(notes); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("%s does not answer within %s: is it a gateway's MQTT port?", f.address(), answerTimeout))
	defer cancel()
	conn, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	client, err := mqtt.Dial(ctx, conn, options)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, f.explain(err)
	}
	return client, nil
}

// place fills in host and port: those of the environment file, as other commands find the installation, or the usual ones.
func (f *mqttFlags) place() {
	f.tls = f.tls || f.ca != ""
	if f.host == "" && f.port == 0 && !f.tls {
		if e, err := readEnvironment(f.environment()); err == nil {
			if listen, err := netip.ParseAddrPort(e.Listen.MQTT); err == nil && listen.Port() != 0 {
				f.port = int(listen.Port())
				if !listen.Addr().IsUnspecified() {
					f.host = listen.Addr().String()
				}
			}
		}
	}
	if f.host == "" {
		f.host = "127.0.0.1"
	}
	switch {
	case f.port != 0:
	case f.tls:
		f.port = 8883
	default:
		f.port = 1883
	}
}

func (f *mqttFlags) address() string { return net.JoinHostPort(f.host, strconv.Itoa(f.port)) }

func (f *mqttFlags) open(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", f.address())
	if err != nil {
		return nil, fmt.Errorf("nobody answers at %s (%w): name the gateway with --host and --port; \"fieldgate status\" says where it listens", f.address(), err)
	}
	if !f.tls {
		return conn, nil
	}
	authorities, err := readAuthorities(f.ca)
	if err != nil {
		conn.Close()
		return nil, err
	}
	config := &tls.Config{ServerName: f.host, MinVersion: tls.VersionTLS12, RootCAs: authorities}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
			return nil, fmt.Errorf("no TLS with %s (%w): name the authority of its certificate with --ca, and the host as the certificate does", f.address(), err)
		}
		return nil, fmt.Errorf("no TLS with %s (%w): does it speak TLS there? \"fieldgate status\" says where it listens", f.address(), err)
	}
	return secure, nil
}

// callerToken reads the secret of a device or app from a file or the environment; never from an argument, which others can read in the
// list of processes. given is false where neither is there.
func callerToken(path string) (token string, given bool, err error) {
	if path != "" {
		file, err := os.Open(path)
		if err != nil {
			return "", false, fmt.Errorf("--token-file: %w", err)
		}
		defer file.Close()
		if err := ownerOnly(file); err != nil {
			return "", false, err
		}
		text, err := io.ReadAll(io.LimitReader(file, 64<<10))
		return strings.TrimSpace(string(text)), true, err
	}
	token, given = os.LookupEnv(tokenVariable)
	return strings.TrimSpace(token), given, nil
}

// token is callerToken's, or that of the person at the terminal.
func (f *mqttFlags) token(notes io.Writer) (string, error) {
	if token, given, err := callerToken(f.tokenFile); given || err != nil {
		return token, err
	}
	if stdin := int(os.Stdin.Fd()); term.IsTerminal(stdin) {
		fmt.Fprint(notes, "Token of the device or app (empty for none): ")
		text, err := term.ReadPassword(stdin)
		fmt.Fprintln(notes)
		return strings.TrimSpace(string(text)), err
	}
	return "", nil
}

// explain says what to do about a refusal of the gateway.
func (f *mqttFlags) explain(err error) error {
	var refused *mqtt.ReasonError
	if !errors.As(err, &refused) {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%s ended the connection without a word: does it speak TLS there (--tls)?", f.address())
		}
		return err
	}
	text := fmt.Sprintf("the gateway refuses: %s", refused.Reason)
	if refused.Packet == mqtt.DISCONNECT {
		text = fmt.Sprintf("the gateway ended the connection: %s", refused.Reason)
	}
	if refused.Text != "" {
		text += ". " + refused.Text
	}
	if remedy := remedies[refused.Reason]; remedy != "" {
		text = strings.TrimSuffix(text, ".") + ". " + remedy
	}
	return errors.New(text)
}

// remedies say what to do about the reasons of refusals. Which rule refused stands in the traffic.
var remedies = map[mqtt.Reason]string{
	mqtt.BadUserNameOrPassword:    `Give a valid token with --token-file or $` + tokenVariable + `; "fieldgate device token ID" issues one.`,
	mqtt.NotAuthorized:            `See which rule refused it with "fieldgate traffic --status denied".`,
	mqtt.TopicNameInvalid:         `No contract has this topic for this caller: "fieldgate api list" shows the APIs, "fieldgate traffic --status denied" what was refused.`,
	mqtt.TopicFilterInvalid:       `+ stands for one whole level and # for all that follow, such as plant/+/temperature or plant/#.`,
	mqtt.PayloadFormatInvalid:     `The payload is not what the contract says: "fieldgate traffic --status denied" shows the place.`,
	mqtt.QuotaExceeded:            `A limit is reached: "fieldgate traffic --status denied" says which.`,
	mqtt.SessionTakenOver:         `Another connection has the same client id: choose another with --client-id.`,
	mqtt.AdministrativeAction:     `An operator closed the connection: "fieldgate audit --filter action:mqtt-session.*" says who and why.`,
	mqtt.ServerBusy:               `Try again in a moment.`,
	mqtt.ServerUnavailable:        `Try again in a moment; "fieldgate doctor" looks for the cause.`,
	mqtt.ClientIdentifierNotValid: `Choose another with --client-id.`,
}
