package upstream

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"fieldgate"
)

// checksAtOnce bounds the checks of one upstream that are under way.
const checksAtOnce = 64

// checkHealth checks all addresses, each interval, until ctx ends. After the first round, which comes at once, the checks of a
// round are spread over a quarter of the interval.
func (u *Upstream) checkHealth(ctx context.Context) {
	places := make(chan struct{}, checksAtOnce)
	for spread := time.Duration(0); ; spread = u.Config.Health.Interval / 4 {
		began := time.Now()
		var checks sync.WaitGroup
		for _, a := range u.addresses() {
			var wait time.Duration
			if spread > 0 {
				wait = rand.N(spread)
			}
			checks.Go(func() {
				if !pause(ctx, wait) {
					return
				}
				places <- struct{}{}
				defer func() { <-places }()
				err := u.checkAddress(ctx, a)
				if ctx.Err() == nil {
					u.checked(a, time.Now(), err)
				}
			})
		}
		checks.Wait()
		if !pause(ctx, u.Config.Health.Interval-time.Since(began)) {
			return
		}
	}
}

// pause waits; it is false when ctx ended.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// checkAddress checks an address once, over a connection of its own: whether one can be had is part of the question. An error is a
// checkError.
func (u *Upstream) checkAddress(ctx context.Context, a *address) (err error) {
	ctx, cancel := context.WithTimeout(ctx, u.Config.Health.Timeout)
	defer cancel()
	switch u.Config.Health.Kind {
	case fieldgate.HealthHTTP:
		err = a.checkHTTP(ctx, &u.Config.Health)
	case fieldgate.HealthGRPC:
		err = a.checkGRPC(ctx, u.Config.Health.Service)
	case fieldgate.HealthCoAP:
		err = a.checkCoAP(ctx, &u.Config.Health)
	default:
		err = a.checkTCP(ctx)
	}
	if err != nil {
		return checkError(inWords(err, u.Config.Health.Timeout))
	}
	return nil
}

// checkTCP connects; of an address with TLS the handshake has to succeed too.
func (a *address) checkTCP(ctx context.Context) error {
	link, err := a.dialForCheck(ctx, "tcp", a.dial)
	if err != nil {
		return err
	}
	return link.Close()
}

func (a *address) checkHTTP(ctx context.Context, check *fieldgate.HealthCheck) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.authority+check.Path, nil) // TLS, if any, is below
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "fieldgate-health")
	request.Host = a.authority
	if check.Host != "" {
		request.Host = check.Host
	}
	transport := a.http2
	if transport != nil {
		if a.tls != nil {
			request.URL.Scheme = "https" // there TLS is the transport's
		}
	} else {
		transport = &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: int64(answerLimits.Head),
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return a.dialForCheck(ctx, network, a.dial)
			}}
	}
	answer, err := transport.RoundTrip(request) // no redirect is followed: its status is the answer
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.CopyN(io.Discard, answer.Body, 64<<10); err != nil && err != io.EOF {
		return err
	}
	return checkStatus(check, answer.StatusCode)
}

func checkStatus(check *fieldgate.HealthCheck, status int) error {
	statuses := check.Statuses
	if len(statuses) == 0 {
		statuses = []fieldgate.StatusRange{{From: 200, To: 299}}
	}
	for _, r := range statuses {
		if status >= r.From && status <= r.To {
			return nil
		}
	}
	return checkError(answeredWith(status))
}

// checkGRPC asks grpc.health.v1.Health/Check.
func (a *address) checkGRPC(ctx context.Context, service string) error {
	security := insecure.NewCredentials()
	if a.tls != nil {
		security = credentials.NewTLS(a.tls.config(time.Now(), a.name, "h2"))
	}
	client, err := grpc.NewClient("passthrough:///"+a.dial, grpc.WithTransportCredentials(security), grpc.WithAuthority(a.authority),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<10)), grpc.WithNoProxy(), grpc.WithDisableServiceConfig())
	if err != nil {
		return err
	}
	defer client.Close()
	answer, err := grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	switch code := status.Code(err); code {
	case codes.OK:
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Unavailable: // which hides why there is no connection, if there is none
		if err := a.checkTCP(ctx); err != nil {
			return err
		}
		fallthrough
	default:
		return checkError(statusWords(code))
	}
	if answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return checkError("the service says " + answer.Status.String())
	}
	return nil
}

// checked notes the result of a check. So many in a row that contradict what is held of the address change it.
func (u *Upstream) checked(a *address, now time.Time, failure error) {
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	if u.successor.Load() != nil { // which checks for itself
		return
	}
	t := sinceStart(now)
	if failure == nil && a.refused && a.ejectedUntil.Load() > t { // there is a connection
		a.returned(t)
		u.rebuild(t)
	}
	if (failure == nil) == (a.checkFailed == "") {
		a.checks = 0
		if failure != nil {
			a.checkFailed = fmt.Sprintf("%.200s", failure) // which may be another one than before
		}
		return
	}
	a.checks++
	was := a.healthy()
	switch {
	case failure != nil && a.checks >= u.Config.Health.Unhealthy:
		a.checkFailed = fmt.Sprintf("%.200s", failure)
	case failure == nil && a.checks >= u.Config.Health.Healthy:
		a.checkFailed = ""
	default:
		return
	}
	a.checks = 0
	if a.healthy() != was {
		a.since, a.freshSince = t, t
		u.turned(a)
	}
	u.rebuild(t)
}
