package adminapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/audit"
	"fieldgate/control/refusal"
)

const (
	cookieName       = "fieldgate-session"
	secureCookieName = "__Host-fieldgate-session" // over TLS only (RFC 6265bis section 4.1.3.2)

	socketSource = "socket" // the source of requests by the socket file

	// presentInterval is how often a request that lasts looks whether its caller still may.
	presentInterval = 5 * time.Second
)

// needed says what the operations of the contract, by their pattern in the router, need.
type needed struct {
	operation string
	public    bool
	scope     access.Scope
}

// unlisted is what the router serves besides the contract.
var unlisted = map[string]needed{
	"GET /metrics": {operation: "getMetrics", scope: access.ScopeRead},
	"/":            {scope: access.ScopeRead}, // what no operation is for
}

// lasting are the operations that end when their caller no longer may go on, not with their answer.
var lasting = []string{"streamTraffic", "streamEvents", "streamMessages", "importDevices"}

// invitedMay are the operations of a session that may only set a password.
var invitedMay = []string{"getSession", "setPassword"}

// neededOf reads the scopes that the contract demands. An operation without one, unless it says that it is public, is an error.
func neededOf(document []byte) (map[string]needed, error) {
	var contract struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(document, &contract); err != nil {
		return nil, err
	}
	all := make(map[string]needed)
	for path, members := range contract.Paths {
		for method, node := range members {
			if method == "parameters" {
				continue
			}
			var operation struct {
				OperationID string                 `yaml:"operationId"`
				Security    *[]map[string][]string `yaml:"security"`
			}
			if err := node.Decode(&operation); err != nil {
				return nil, err
			}
			need := needed{operation: operation.OperationID}
			if operation.Security == nil {
				return nil, fmt.Errorf("%s says nothing of its security", operation.OperationID)
			}
			need.public = len(*operation.Security) == 0
			for _, alternative := range *operation.Security {
				for _, scopes := range alternative {
					if len(scopes) != 1 || need.scope != "" && need.scope != access.Scope(scopes[0]) || !slices.Contains(access.RoleOwner.Scopes(), access.Scope(scopes[0])) {
						return nil, fmt.Errorf("%s does not name one scope that there is", operation.OperationID)
					}
					need.scope = access.Scope(scopes[0])
				}
			}
			if !need.public && need.scope == "" {
				return nil, fmt.Errorf("%s names no scope", operation.OperationID)
			}
			all[strings.ToUpper(method)+" "+path] = need
		}
	}
	return all, nil
}

// asked is what the operations about operators know of their request besides its contents.
type asked struct {
	caller *access.Caller // nil where nobody needs to be known, and is not
	client access.Client
	cookie func(*http.Cookie) // sets it in the answer
	secure bool               // over TLS
}

type askedKey struct{}

func askedOf(ctx context.Context) *asked { return ctx.Value(askedKey{}).(*asked) }

// authenticate finds out who asks, and lets through who may. What is served at a path the router knows.
func (s *Server) authenticate(router *http.ServeMux, next http.Handler) http.Handler {
	contract, err := neededOf(api.Document)
	if err != nil {
		panic(err) // the document is part of the program, and tested
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store") // answers hold tokens
		w.Header().Set("X-Content-Type-Options", "nosniff")
		id := rand.Text()
		w.Header().Set("X-Request-Id", id)
		if !s.knowsHost(r) {
			writeProblem(w, newProblem(http.StatusForbidden, "forbidden", "Not allowed",
				"The admin API answers at loopback addresses only: use http://127.0.0.1 with its port, or name the host in the environment file."))
			return
		}
		if !isText(r.URL.Path) {
			refuse(s.config.Log, w, r, errNoText)
			return
		}
		_, pattern := router.Handler(r)
		need, listed := contract[pattern]
		if !listed {
			need = unlisted[pattern]
		}
		ask := &asked{
			client: access.Client{Source: sourceOf(r), Agent: r.UserAgent(), Request: id},
			cookie: func(c *http.Cookie) { http.SetCookie(w, c) },
			secure: r.TLS != nil,
		}
		ctx := context.WithValue(r.Context(), askedKey{}, ask)
		caller, err := s.identify(ctx, r, ask)
		if err != nil && !need.public {
			if isUnauthenticated(err) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="fieldgate"`) // RFC 6750 section 3
			}
			refuse(s.config.Log, w, r, err)
			return
		}
		ask.caller = caller
		if err := permitted(caller, need); err != nil {
			refuse(s.config.Log, w, r, err)
			return
		}
		if need.public && r.Method != http.MethodGet && !fromOwnPages(r, false) {
			refuse(s.config.Log, w, r, errOtherPage)
			return
		}
		if caller != nil {
			ctx = audit.As(ctx, caller.Actor(ask.client.Source, id))
			if slices.Contains(lasting, need.operation) {
				release, err := s.lasting.begin(caller.Account)
				if err != nil {
					refuse(s.config.Log, w, r, err)
					return
				}
				defer release()
				var end context.CancelFunc
				ctx, end = s.whilePresent(ctx, caller, need)
				defer end()
			}
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// isText says whether a text is one for every database: PostgreSQL takes neither what is not UTF-8 nor U+0000.
func isText(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

var (
	errNoCredential = refusal.Unauthenticated("Sign in, or send an API token as Authorization: Bearer fgp_…, such as that of the data directory.")
	errNoText       = refusal.Invalid("The address is not UTF-8 text.")
	errOtherPage    = refusal.Forbidden("The request comes from a page of another site: use the console's own address.")
)

func isUnauthenticated(err error) bool {
	var refused *refusal.Error
	return errors.As(err, &refused) && refused.Code == refusal.CodeUnauthenticated
}

// identify is who asks, by a token, or else by the cookie of a session, which browsers add to requests of whatever page.
func (s *Server) identify(ctx context.Context, r *http.Request, ask *asked) (*access.Caller, error) {
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		scheme, token, _ := strings.Cut(authorization, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil, errNoCredential
		}
		return s.config.Operators.Bearer(ctx, strings.TrimSpace(token), ask.client.Source)
	}
	cookie, err := r.Cookie(sessionCookieName(ask.secure))
	if err != nil {
		return nil, errNoCredential
	}
	if !fromOwnPages(r, true) {
		return nil, errOtherPage
	}
	return s.config.Operators.Session(ctx, cookie.Value, ask.client.Source)
}

// fromOwnPages says whether the console sent a request. Browsers say so themselves (W3C Fetch Metadata; Origin, RFC 6454); with a
// cookie what does not say it is not believed, where it would change something.
func fromOwnPages(r *http.Request, cookie bool) bool {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "same-origin":
		return true
	case site == "none": // typed in, or from a bookmark
		return safe
	case site != "":
		return false
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
	}
	return safe || !cookie
}

func permitted(caller *access.Caller, need needed) error {
	switch {
	case need.public:
		return nil
	case need.scope == "":
		return refusal.Forbidden("Nobody may do this.")
	case caller.Kind == access.KindInvited && slices.Contains(invitedMay, need.operation):
		return nil
	case caller.Kind == access.KindInvited:
		return refusal.Forbidden("Set a password first: the session of an invitation is for nothing else.")
	case !caller.May(need.scope) && caller.Kind == access.KindToken:
		return refusal.Forbidden("This needs the scope %s, which the token %q does not have, or its operator no longer.", need.scope, caller.Label)
	case !caller.May(need.scope):
		return refusal.Forbidden("This needs the scope %s, which the roles %s have; you are %s.", need.scope, access.RolesWith(need.scope), caller.Role)
	}
	return nil
}

// whilePresent is a context that ends when the caller no longer may go on.
func (s *Server) whilePresent(ctx context.Context, caller *access.Caller, need needed) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancel(ctx)
	go func() {
		ticker := time.NewTicker(presentInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			present, err := s.config.Operators.Present(ctx, caller)
			if isUnauthenticated(err) || err == nil && permitted(present, need) != nil {
				end()
			}
		}
	}()
	return ctx, end
}

// knowsHost guards against DNS rebinding: a page of another site, whose name leads to a loopback address, must not reach what
// listens there.
func (s *Server) knowsHost(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if isSocket(local) {
		return true
	}
	if address, ok := local.(*net.TCPAddr); ok && !address.IP.IsLoopback() {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback() || slices.Contains(s.config.Hosts, host)
}

func isSocket(local net.Addr) bool { return local != nil && local.Network() == "unix" }

func sourceOf(r *http.Request) string {
	if local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); isSocket(local) {
		return socketSource
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func sessionCookieName(secure bool) string {
	if secure {
		return secureCookieName
	}
	return cookieName
}

// giveCookie hands the browser its session; an empty secret takes it away.
func (a *asked) giveCookie(secret string, expires time.Time) {
	c := &http.Cookie{Name: sessionCookieName(a.secure), Value: secret, Path: "/", Expires: expires,
		HttpOnly: true, Secure: a.secure, SameSite: http.SameSiteStrictMode}
	if secret == "" {
		c.Expires, c.MaxAge = time.Time{}, -1
	}
	a.cookie(c)
}
