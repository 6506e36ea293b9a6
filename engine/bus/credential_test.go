package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"fieldgate"
	"fieldgate/test/certtest"
	"fieldgate/test/nats"
	"fieldgate/test/output"
)

const secret = "correct-horse-battery"

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each kind of credential lets us in; without it, or with a wrong one, the bus is away and says why; no log or error holds a secret.
func TestCredentials(t *testing.T) {
	t.Parallel()
	user, seed := newKey(t, nkeys.CreateUser)
	trust, creds := operatorMode(t)
	authority, folder := certtest.NewAuthority(t), t.TempDir()
	certificate, key := filepath.Join(folder, "server.pem"), filepath.Join(folder, "server.key")
	certtest.Write(t, authority.Issue(t, -time.Hour, time.Hour, "127.0.0.1"), certificate, key)
	password := fmt.Sprintf("authorization { users: [{ user: gateway, password: %q }] }", secret)
	encrypted := fmt.Sprintf("tls { cert_file: %q, key_file: %q }", certificate, key)
	for name, c := range map[string]struct {
		server string
		right  func(c *Cluster)
		wrong  func(c *Cluster)
	}{
		"a password in the address": {password,
			func(c *Cluster) { c.URLs = strings.Replace(c.URLs, "//", "//gateway:"+secret+"@", 1) },
			func(c *Cluster) { c.URLs = strings.Replace(c.URLs, "//", "//gateway:no"+secret+"@", 1) }},
		"a password in a file": {password,
			func(c *Cluster) { c.User, c.PasswordFile = "gateway", file(t, secret+"\n") },
			func(c *Cluster) { c.User, c.PasswordFile = "gateway", file(t, "no"+secret) }},
		"a token": {fmt.Sprintf("authorization { token: %q }", secret),
			func(c *Cluster) { c.TokenFile = file(t, secret+"\n") },
			func(c *Cluster) { c.TokenFile = file(t, "no"+secret) }},
		"an NKey": {fmt.Sprintf("authorization { users: [{ nkey: %s }] }", user),
			func(c *Cluster) { c.SeedFile = file(t, seed) },
			func(c *Cluster) { _, other := newKey(t, nkeys.CreateUser); c.SeedFile = file(t, other) }},
		"a .creds file": {trust,
			func(c *Cluster) { c.CredentialsFile = file(t, creds) },
			func(c *Cluster) { _, other := operatorMode(t); c.CredentialsFile = file(t, other) }},
		"TLS": {encrypted,
			func(c *Cluster) { c.URLs, c.CAFile = strings.Replace(c.URLs, "nats:", "tls:", 1), authority.File },
			func(c *Cluster) { c.URLs = strings.Replace(c.URLs, "nats:", "tls:", 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(output.Buffer)
			urls := nats.New(t, 1, c.server).URLs()
			connect := func(change func(*Cluster)) *Bus {
				cluster := Cluster{URLs: urls, Log: slog.New(slog.NewTextHandler(log, nil))}
				change(&cluster)
				b, err := Connect(cluster)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(b.Close)
				return b
			}
			b, stream := connect(c.right), ownStream(t)
			if err := b.Health(); err != nil {
				t.Fatal(err)
			}
			keep(t, b, stream)
			write(t, b, stream, 1, 3)
			read(t, b, stream, 1, 3)

			refused := connect(c.wrong)
			wait(t, "it says why", func() bool {
				text := fmt.Sprint(refused.Health())
				return strings.Contains(text, "uthorization") || strings.Contains(text, "uthentication") || strings.Contains(text, "certificate")
			})
			if err := refused.Publish("x", nil); !errors.Is(err, ErrUnavailable) {
				t.Error(err)
			}
			if text := log.String() + fmt.Sprint(refused.Health()); strings.Contains(text, secret) || strings.Contains(text, seed) {
				t.Errorf("a secret is in the log:\n%s", text)
			}
		})
	}
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) (public, seed string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	text, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return public, string(text)
}

// operatorMode is the configuration of a server that trusts an operator, and the .creds file of a user.
func operatorMode(t *testing.T) (server, creds string) {
	t.Helper()
	operator, operatorSeed := newKey(t, nkeys.CreateOperator)
	account, accountSeed := newKey(t, nkeys.CreateAccount)
	system, _ := newKey(t, nkeys.CreateAccount)
	user, userSeed := newKey(t, nkeys.CreateUser)
	sign := func(claims jwt.Claims, seed string) string {
		pair, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			t.Fatal(err)
		}
		text, err := claims.Encode(pair)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	operatorClaims := jwt.NewOperatorClaims(operator)
	operatorClaims.SystemAccount = system
	accountClaims := jwt.NewAccountClaims(account)
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	text, err := jwt.FormatUserConfig(sign(jwt.NewUserClaims(user), accountSeed), []byte(userSeed))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }\n",
		sign(operatorClaims, operatorSeed), system, account, sign(accountClaims, operatorSeed), system, sign(jwt.NewAccountClaims(system), operatorSeed)), string(text)
}

// Settings that make no sense are refused, in words that hold no secret.
func TestSettings(t *testing.T) {
	good := file(t, secret)
	for name, cluster := range map[string]Cluster{
		"form":         {URLs: ""},
		"form nats":    {URLs: "host:4222"},
		"form tls":     {URLs: "http://" + secret + ":" + secret + "@host"},
		"address 2":    {URLs: "nats://a:4222,nats://u:" + secret + " x%zz@host"},
		"one for all":  {URLs: "nats://a,tls://b"},
		"different":    {URLs: "nats://u:" + secret + "@a,nats://v:" + secret + "@b"},
		"choose one":   {URLs: "nats://u:" + secret + "@a", TokenFile: good},
		"no file":      {URLs: "nats://a", User: "u"},
		"no such file": {URLs: "nats://a", TokenFile: good + ".missing"},
		"seed":         {URLs: "nats://a", SeedFile: good},
		"CA file":      {URLs: "nats://a", CAFile: good},
		"no PEM":       {URLs: "tls://a", CAFile: good},
	} {
		cluster.Log = slog.New(slog.DiscardHandler)
		want, _, _ := strings.Cut(name, " nats")
		want, _, _ = strings.Cut(want, " tls")
		if b, err := Connect(cluster); err == nil {
			b.Close()
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A cluster without JetStream, or of a version that is too old, is refused with what to do about it.
func TestUnsuitable(t *testing.T) {
	t.Parallel()
	urls := nats.New(t, 1, "jetstream: false\n").URLs()
	if b, err := Connect(Cluster{URLs: urls, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrUnsuitable) || !strings.Contains(err.Error(), "switch it on") {
		if b != nil {
			b.Close()
		}
		t.Errorf("without JetStream: %v", err)
	}
	urls = nats.New(t, 1, "max_payload: 64KB\n").URLs()
	if b, err := Connect(Cluster{URLs: urls, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrUnsuitable) || !strings.Contains(err.Error(), "max_payload") {
		if b != nil {
			b.Close()
		}
		t.Errorf("small messages only: %v", err)
	}
	for version, old := range map[string]bool{"2.9.25": true, "1.4.1": true, "2.10.29": true, "2.11.0": false, "2.15.2": false, "3.0.0-beta": false, "devel": false} {
		if tooOld(version) != old {
			t.Errorf("%s is old: %v", version, !old)
		}
	}
}

// The permissions that the documentation gives suffice for each role, and for no more.
func TestPermissions(t *testing.T) {
	t.Parallel()
	accounts, err := os.ReadFile("testdata/accounts.conf")
	if err != nil {
		t.Fatal(err)
	}
	// The server takes variables from its configuration too.
	urls := nats.New(t, 3, "SYS_PASSWORD: a\nCONTROL_PASSWORD: b\nGATEWAY_PASSWORD: c\n"+string(accounts)).URLs()
	log := new(output.Buffer)
	connect := func(user, password, name string) *Bus {
		b, err := Connect(Cluster{URLs: urls, User: user, PasswordFile: file(t, password), Name: name, Log: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	control, other, gateway := connect("control", "b", "control-1"), connect("control", "b", "control-2"), connect("gateway-1", "c", "gateway-1")
	for _, b := range []*Bus{control, other, gateway} {
		wait(t, "JetStream answers", func() bool { return b.Health() == nil })
	}
	records := Stream{Name: fieldgate.StreamRecords, Subjects: []string{fieldgate.SubjectRecords + ">"}, MaxBytes: 1 << 20, MaxAge: time.Hour}
	wait(t, "the stream is kept", func() bool { _, err := control.Keep(t.Context(), records); return err == nil })
	keep(t, other, records)
	served := []string{fieldgate.SubjectSnapshotManifest, fieldgate.SubjectSnapshotContract, fieldgate.SubjectDirectoryChanges}
	for _, b := range []*Bus{control, other} {
		for _, subject := range served {
			if _, err := b.Serve(subject, func([]byte) (Answer, error) {
				time.Sleep(answerPatience * 3 / 2) // so that all are asked
				return Answer{Data: []byte("answer")}, nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, subject := range served {
		if answer, err := gateway.Request(t.Context(), subject, nil); err != nil || string(answer.Data) != "answer" {
			t.Errorf("%s: %v", subject, err)
		}
	}
	// A gateway is asked, too, by either control node; here its answer comes at the second asking.
	if _, err := gateway.Serve(fieldgate.SubjectMQTT+"gateway-1", func([]byte) (Answer, error) {
		time.Sleep(answerPatience * 3 / 2)
		return Answer{Data: []byte("answer")}, nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Bus{control, other} {
		wait(t, "the gateway answers", func() bool {
			answer, err := b.Request(t.Context(), fieldgate.SubjectMQTT+"gateway-1", nil)
			return err == nil && string(answer.Data) == "answer"
		})
	}
	heard := make(chan string, 10)
	for _, c := range []struct {
		from, to *Bus
		subject  string
	}{
		{control, gateway, fieldgate.SubjectSnapshotChanged}, {other, gateway, fieldgate.SubjectDirectoryChanged},
		{gateway, control, fieldgate.SubjectGatewayState}, {gateway, gateway, fieldgate.SubjectGatewayState},
		{control, gateway, fieldgate.SubjectMQTTWatch}, {gateway, other, fieldgate.SubjectMQTTHeard + "w"},
	} {
		stop, err := c.to.Subscribe(c.subject, func(subject string, _ []byte) { heard <- subject })
		if err != nil {
			t.Fatal(err)
		}
		wait(t, c.subject, func() bool { // another server of the cluster may not know of the subscription yet
			if err := c.from.Publish(c.subject, nil); err != nil {
				t.Fatal(err)
			}
			select {
			case subject := <-heard:
				return subject == c.subject
			case <-time.After(100 * time.Millisecond):
				return false
			}
		})
		stop()
	}
	if err := gateway.Append(t.Context(), fieldgate.SubjectRecords+"gateway-1", "1", []byte("1")); err != nil {
		t.Fatal(err)
	}
	err = other.Read(t.Context(), records.Name, 1, 10, func([]Entry) error { return errEnough })
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	keep(t, control, Stream{Name: fieldgate.StreamCommands, Subjects: []string{fieldgate.SubjectCommands + ">"}, MaxBytes: 1 << 20, Latest: true})
	if _, err := gateway.Put(t.Context(), fieldgate.SubjectCommands+"k", []byte("1"), 0, time.Hour); err != nil {
		t.Error(err)
	}
	if value, err := gateway.Latest(t.Context(), fieldgate.StreamCommands, fieldgate.SubjectCommands+"k"); err != nil || string(value.Data) != "1" {
		t.Error(err)
	}
	keep(t, control, Stream{Name: fieldgate.StreamMQTT, Subjects: []string{fieldgate.SubjectMQTTLog + ">"}, MaxBytes: 1 << 20})
	if err := gateway.Append(t.Context(), fieldgate.SubjectMQTTLog+"gateway-1", "1", []byte("1")); err != nil {
		t.Error(err)
	}
	if err := gateway.Read(t.Context(), fieldgate.StreamMQTT, 1, 10, func([]Entry) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Error(err)
	}
	if _, err := gateway.Serve(fieldgate.SubjectMQTTCopy+"gateway-1", func([]byte) (Answer, error) { return Answer{}, nil }); err != nil {
		t.Error(err)
	}
	wait(t, "a gateway gives another one a copy", func() bool {
		_, err := gateway.Request(t.Context(), fieldgate.SubjectMQTTCopy+"gateway-1", nil)
		return err == nil
	})
	keep(t, control, Stream{Name: fieldgate.StreamDevices, Subjects: []string{fieldgate.SubjectDeviceRegistration + "*", fieldgate.SubjectDeviceCommands + "*"}, MaxBytes: 1 << 20, Latest: true})
	for subject, by := range map[string]*Bus{fieldgate.SubjectDeviceRegistration: gateway, fieldgate.SubjectDeviceCommands: control} {
		if _, err := by.Put(t.Context(), subject+"d7", []byte("1"), 0, time.Hour); err != nil {
			t.Error(err)
		}
		for _, b := range []*Bus{gateway, control} {
			if _, err := b.Latest(t.Context(), fieldgate.StreamDevices, subject+"d7"); err != nil {
				t.Error(err)
			}
		}
	}
	if err := gateway.Follow(t.Context(), fieldgate.StreamDevices, 10, func([]Entry) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Error(err)
	}
	if _, err := gateway.ServeEach(fieldgate.SubjectDeviceAsk+"gateway-1", 1, func(context.Context, []byte) (Answer, error) { return Answer{}, nil }); err != nil {
		t.Error(err)
	}
	for _, by := range []*Bus{control, gateway} {
		wait(t, "a gateway is asked about a device", func() bool {
			_, err := by.Ask(t.Context(), fieldgate.SubjectDeviceAsk+"gateway-1", nil)
			return err == nil
		})
	}
	if text := log.String(); strings.Contains(text, "ermissions") {
		t.Fatalf("something is not permitted:\n%s", text)
	}

	forbidden := map[string]func(context.Context) error{
		"append in the name of another": func(ctx context.Context) error {
			return gateway.Append(ctx, fieldgate.SubjectRecords+"gateway-2", "1", nil)
		},
		"answer for another gateway about a device": func(ctx context.Context) error {
			stop, err := gateway.ServeEach(fieldgate.SubjectDeviceAsk+"gateway-2", 1, func(context.Context, []byte) (Answer, error) { return Answer{}, nil })
			if err != nil {
				return err
			}
			defer stop()
			_, err = control.Ask(ctx, fieldgate.SubjectDeviceAsk+"gateway-2", nil)
			return err
		},
		"write the log of MQTT in the name of another": func(ctx context.Context) error {
			return gateway.Append(ctx, fieldgate.SubjectMQTTLog+"gateway-2", "1", nil)
		},
		"see the stream": func(ctx context.Context) error { _, err := gateway.State(ctx, records.Name); return err },
	}
	for what, try := range forbidden {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if try(ctx) == nil {
			t.Errorf("a gateway may %s", what)
		}
		cancel()
	}
	if err := gateway.Publish(fieldgate.SubjectSnapshotChanged, nil); err != nil {
		t.Error(err)
	}
	wait(t, "three violations are logged", func() bool { return strings.Count(log.String(), "ermissions Violation") >= 3 })
}

// An account that must not use JetStream is told so. Its gateway is refused at the start.
func TestAccountWithoutJetStream(t *testing.T) {
	t.Parallel()
	urls := nats.New(t, 1, "accounts { A { users: [{ user: u, password: p }] }, SYS { users: [{ user: s, password: s }] } }\nsystem_account: SYS\n").URLs()
	b, err := Connect(Cluster{URLs: strings.Replace(urls, "//", "//u:p@", 1), Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrUnsuitable) {
		t.Error(err)
	}
	if b != nil {
		b.Close()
	}
}
