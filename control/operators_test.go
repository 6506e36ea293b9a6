package control

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/control/access"
	"fieldgate/control/audit"
	"fieldgate/test/certtest"
)

// browser is somebody at the console, with their cookies.
type browser struct {
	*node
	t      *testing.T
	client *http.Client
	header http.Header
}

func (n *node) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{n, t, &http.Client{Jar: jar}, http.Header{"Sec-Fetch-Site": {"same-origin"}}}
}

// send answers with the status, and decodes a body into answer unless that is nil.
func (b *browser) send(method, path, body string, answer any) int {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+b.control.Address()+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header = b.header.Clone()
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	if answer != nil {
		if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
			b.t.Fatalf("%s %s: %d: %v", method, path, response.StatusCode, err)
		}
	}
	return response.StatusCode
}

func (b *browser) want(status int, method, path, body string, answer any) {
	b.t.Helper()
	if got := b.send(method, path, body, answer); got != status {
		b.t.Fatalf("%s %s: %d, want %d", method, path, got, status)
	}
}

const longSecret = "a long enough secret"

func object(pairs ...string) string {
	values := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	encoded, err := json.Marshal(values)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

// claim signs in for the first time and becomes ana.
func (n *node) claim(t *testing.T) *browser {
	t.Helper()
	ana := n.browser(t)
	ana.want(200, "POST", "/api/v1/session", object("token", n.control.SignInToken()), nil)
	ana.want(201, "POST", "/api/v1/claim", object("name", "ana", "password", longSecret), nil)
	return ana
}

// join has ana invite somebody.
func (ana *browser) join(name string, role access.Role) *browser {
	ana.t.Helper()
	var invited api.OperatorWithInvitation
	ana.want(201, "POST", "/api/v1/operators", object("name", name, "role", string(role)), &invited)
	b := ana.browser(ana.t)
	b.want(200, "POST", "/api/v1/session", object("token", invited.Token), nil)
	b.want(204, "PUT", "/api/v1/session/password", object("password", longSecret), nil)
	return b
}

func TestClaim(t *testing.T) {
	data := socketDirectory(t)
	n := start(t, data)
	var setup api.Setup
	stranger := n.browser(t)
	stranger.want(200, "GET", "/api/v1/setup", "", &setup)
	content, err := os.ReadFile(setup.TokenFile)
	if setup.Claimed || err != nil || strings.TrimSpace(string(content)) != n.control.SignInToken() {
		t.Fatalf("%+v %v", setup, err)
	}
	stranger.want(401, "GET", "/api/v1/session", "", nil)
	stranger.want(401, "POST", "/api/v1/session", object("token", "fgs_nonsense"), nil)
	stranger.want(400, "POST", "/api/v1/session", object("token", "x", "name", "y", "password", "z"), nil)

	ana := n.browser(t)
	var session api.Session
	ana.want(200, "POST", "/api/v1/session", object("token", n.control.SignInToken()), &session)
	if session.Kind != api.SessionSetup || session.Name != "setup" || session.Role != api.RoleOwner {
		t.Fatalf("%+v", session)
	}
	stranger.want(401, "POST", "/api/v1/session", object("token", n.control.SignInToken()), nil)
	ana.want(200, "GET", "/api/v1/status", "", nil)
	ana.want(400, "POST", "/api/v1/claim", object("name", "ana", "password", "short"), nil)
	ana.want(201, "POST", "/api/v1/claim", object("name", "ana", "password", longSecret), &session)
	if session.Kind != api.SessionOperator || session.Name != "ana" || len(session.Scopes) != 7 {
		t.Fatalf("%+v", session)
	}
	ana.want(200, "GET", "/api/v1/session", "", &session)
	setup = api.Setup{}
	stranger.want(200, "GET", "/api/v1/setup", "", &setup)
	if _, err := os.Stat(n.control.SignInTokenPath()); !setup.Claimed || setup.TokenFile != "" || err == nil {
		t.Fatalf("%+v %v", setup, err)
	}
	ana.want(204, "DELETE", "/api/v1/session", "", nil)
	ana.want(401, "GET", "/api/v1/session", "", nil)
	ana.want(204, "DELETE", "/api/v1/session", "", nil) // again
	ana.want(200, "POST", "/api/v1/session", object("name", "ana", "password", longSecret), nil)
	ana.want(200, "GET", "/api/v1/session", "", nil)

	// It stays claimed over a restart.
	n.stop()
	n.control.config.Store.Close()
	n.bus.Close()
	again := start(t, data)
	if again.control.SignInToken() != "" {
		t.Error("a first sign-in after the claim")
	}
}

func TestInvitedMayOnlySetAPassword(t *testing.T) {
	n := start(t, socketDirectory(t))
	ana := n.claim(t)
	var invited api.OperatorWithInvitation
	ana.want(201, "POST", "/api/v1/operators", object("name", "ben", "role", "owner"), &invited)
	ben := n.browser(t)
	var session api.Session
	ben.want(200, "POST", "/api/v1/session", object("token", invited.Token), &session)
	if session.Kind != api.SessionInvited || len(session.Scopes) != 0 {
		t.Fatalf("%+v", session)
	}
	ben.want(200, "GET", "/api/v1/session", "", nil)
	for _, path := range []string{"/api/v1/status", "/api/v1/sessions", "/metrics", "/nowhere"} {
		ben.want(403, "GET", path, "", nil)
	}
	ben.want(403, "POST", "/api/v1/tokens", `{"name":"x","scopes":["read"]}`, nil)
	ben.want(400, "PUT", "/api/v1/session/password", object("password", "short"), nil)
	ben.want(204, "PUT", "/api/v1/session/password", object("password", longSecret), nil)
	ben.want(200, "GET", "/api/v1/status", "", nil)
}

// operation is one of the contract.
type operation struct {
	method, path string
	public       bool
	scope        access.Scope
}

func contractOperations(t *testing.T) map[string]operation {
	t.Helper()
	var document struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(api.Document, &document); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]operation)
	for path, members := range document.Paths {
		for method, node := range members {
			var member struct {
				OperationID string                `yaml:"operationId"`
				Security    []map[string][]string `yaml:"security"`
			}
			if method == "parameters" {
				continue
			}
			if err := node.Decode(&member); err != nil {
				t.Fatal(err)
			}
			found := operation{method: strings.ToUpper(method), path: path, public: len(member.Security) == 0}
			for _, alternative := range member.Security {
				for _, scopes := range alternative {
					found.scope = access.Scope(scopes[0])
				}
			}
			all[member.OperationID] = found
		}
	}
	return all
}

// Each operation lets in who has its scope, by session and by token, and nobody else.
func TestScopes(t *testing.T) {
	n := start(t, socketDirectory(t))
	ana := n.claim(t)
	all := contractOperations(t)
	public := slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, bool) bool) {
		for id, o := range all {
			if o.public && !yield(id, true) {
				return
			}
		}
	})))
	if got := strings.Join(public, " "); got != "getHealth getReadiness getSetup signIn signOut" {
		t.Errorf("open to everybody: %s", got)
	}
	for _, role := range []access.Role{access.RoleAuditor, access.RoleDeveloper, access.RoleOperator, access.RoleOwner} {
		bySession := ana.join("the-"+string(role), role)
		// A token of an owner with the scopes of the role can do as much.
		scopes, err := json.Marshal(map[string]any{"name": role, "scopes": role.Scopes()})
		if err != nil {
			t.Fatal(err)
		}
		var token api.TokenWithSecret
		bySession.want(201, "POST", "/api/v1/tokens", string(scopes), &token)
		byToken := n.browser(t)
		byToken.header = http.Header{"Authorization": {"Bearer " + token.Secret}}
		for id, o := range all {
			if o.public || id == "streamEvents" || id == "streamTraffic" {
				continue
			}
			path := strings.NewReplacer("{", "", "}", "").Replace(o.path) // names of what is not there
			for how, b := range map[string]*browser{"session": bySession, "token": byToken} {
				var problem api.Problem
				method := o.method
				status := b.send(method, path, "", nil)
				if status == 403 {
					b.send(method, path, "", &problem)
				}
				// What a caller may ask for, and is refused for another reason, says so in other words.
				lacks := status == 403 && strings.Contains(problem.Detail, "This needs the scope "+string(o.scope))
				if lacks == slices.Contains(role.Scopes(), o.scope) || status == 401 {
					t.Errorf("%s (%s) as %s by %s: %d %s", id, o.scope, role, how, status, problem.Detail)
				}
			}
		}
		for path, want := range map[string]int{"/metrics": 200, "/nowhere": 404} {
			bySession.want(want, "GET", path, "", nil)
		}
	}
}

// A page of another site cannot have a browser send what the session of the console may do.
func TestOtherPages(t *testing.T) {
	n := start(t, socketDirectory(t))
	ana := n.claim(t)
	own := "http://" + n.control.Address()
	tests := []struct {
		name   string
		header http.Header
		get    int
		post   int // with a session
		signIn int // without one
	}{
		{"the console", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {own}}, 200, 400, 401},
		{"an older browser", http.Header{"Origin": {own}}, 200, 400, 401},
		{"a bookmark", http.Header{"Sec-Fetch-Site": {"none"}}, 200, 401, 403},
		{"another site", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://example.org"}}, 401, 401, 403},
		{"another port", http.Header{"Sec-Fetch-Site": {"same-site"}, "Origin": {"http://127.0.0.1:1"}}, 401, 401, 403},
		{"another site, older browser", http.Header{"Origin": {"https://example.org"}}, 401, 401, 403},
		{"a sandboxed frame", http.Header{"Origin": {"null"}}, 401, 401, 403},
		{"a claim of both", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {own}}, 401, 401, 403},
		{"no browser", http.Header{}, 200, 401, 401},
	}
	for _, test := range tests {
		// A refusal for the page is 403; without a caller it is that nobody is known.
		ana.header = test.header
		if got := ana.send("GET", "/api/v1/status", "", nil); got != test.get && !(test.get == 401 && got == 403) {
			t.Errorf("%s: GET %d", test.name, got)
		}
		if got := ana.send("POST", "/api/v1/devices", "", nil); got != test.post && !(test.post == 401 && got == 403) {
			t.Errorf("%s: POST %d", test.name, got)
		}
		stranger := n.browser(t)
		stranger.header = test.header
		if got := stranger.send("POST", "/api/v1/session", object("token", "x"), nil); got != test.signIn {
			t.Errorf("%s: sign in %d", test.name, got)
		}
		// A token is never added by a browser on its own.
		program := n.browser(t)
		program.header = test.header.Clone()
		program.header.Set("Authorization", "Bearer "+n.token)
		if got := program.send("POST", "/api/v1/devices", "", nil); got != 400 {
			t.Errorf("%s: POST with a token %d", test.name, got)
		}
	}
	ana.header = http.Header{"Sec-Fetch-Site": {"cross-site"}}
	ana.send("DELETE", "/api/v1/session", "", nil)
	ana.header = http.Header{}
	ana.want(200, "GET", "/api/v1/session", "", nil) // nobody else signs her out
}

// A stream ends when its reader may no longer read.
func TestStreamEndsWithItsReader(t *testing.T) {
	t.Parallel() // it mostly waits
	n := start(t, socketDirectory(t))
	ana := n.claim(t)
	ben := ana.join("ben", access.RoleAuditor)
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.control.Address()+"/api/v1/traffic/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := ben.client.Do(request)
	if err != nil || response.StatusCode != 200 {
		t.Fatal(response, err)
	}
	defer response.Body.Close()
	ana.want(200, "PATCH", "/api/v1/operators/ben", `{"disabled":true}`, nil)
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
}

// A name that leads to a loopback address is not enough (DNS rebinding).
func TestHosts(t *testing.T) {
	n := start(t, socketDirectory(t))
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8090": 200, "LOCALHOST.": 200, "127.0.0.1": 200, "127.7.7.7:80": 200, "[::1]:8090": 200, "[::1]": 200,
		"example.org": 403, "localhost.example.org": 403, "127.0.0.1.example.org": 403, "192.0.2.1": 403, "0.0.0.0": 403, "[2001:db8::1]:80": 403,
		"127.0.0.1@example.org": 403,
	} {
		b := n.browser(t)
		b.header.Set("Host", host)
		if got := b.send("GET", "/api/v1/setup", "", nil); got != want {
			t.Errorf("%s: %d", host, got)
		}
	}
	// The socket file cannot be reached by a browser; its client calls itself what it likes.
	bySocket, err := client.Open("unix:"+n.socket, n.token)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := bySocket.GetSetupWithResponse(t.Context()); err != nil || answer.JSON200.Claimed {
		t.Error(err)
	}
}

func TestSessionCookie(t *testing.T) {
	n := start(t, socketDirectory(t))
	response, err := http.Post("http://"+n.control.Address()+"/api/v1/session", "application/json", strings.NewReader(object("token", n.control.SignInToken())))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	cookies := response.Cookies()
	if len(cookies) != 1 {
		t.Fatal(cookies)
	}
	if c := cookies[0]; c.Name != "fieldgate-session" || !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 {
		t.Errorf("%+v", c)
	}
	for _, name := range []string{"Cache-Control", "X-Content-Type-Options", "X-Request-Id"} {
		if response.Header.Get(name) == "" {
			t.Errorf("no %s", name)
		}
	}
}

// Two owners at one operator: the second is told.
func TestOperatorIfMatch(t *testing.T) {
	n := start(t, socketDirectory(t))
	ana := n.claim(t)
	ana.join("ben", access.RoleAuditor)
	shown, err := n.GetOperatorWithResponse(t.Context(), "ben")
	if err != nil {
		t.Fatal(err)
	}
	tag := shown.HTTPResponse.Header.Get("ETag")
	changed, err := n.UpdateOperatorWithResponse(t.Context(), "ben", &api.UpdateOperatorParams{IfMatch: tag}, api.OperatorUpdate{Role: api.RoleOperator})
	if err != nil || changed.JSON200.Role != api.RoleOperator || changed.HTTPResponse.Header.Get("ETag") == tag {
		t.Fatal(err)
	}
	for _, old := range []string{tag, `"x"`, `"0"`, "W/" + tag} {
		_, err = n.UpdateOperatorWithResponse(t.Context(), "ben", &api.UpdateOperatorParams{IfMatch: old}, api.OperatorUpdate{Role: api.RoleOwner})
		var problem *api.Problem
		if status(err) != 412 || !errors.As(err, &problem) || problem.Current["role"] != "operator" || problem.Changes[0].Action != "operator.update" {
			t.Errorf("%s: %+v", old, err)
		}
	}
	if _, err := n.RemoveOperatorWithResponse(t.Context(), "ben", &api.RemoveOperatorParams{IfMatch: "*"}); err != nil {
		t.Error(err)
	}
}

// TestEveryDecisionIsAudited carries out each operation of the contract that may change something, and looks for its row. An
// operation that this table lacks fails it.
func TestEveryDecisionIsAudited(t *testing.T) {
	n := start(t, socketDirectory(t))
	setup := n.browser(t)
	local := n.browser(t)
	local.header = http.Header{"Authorization": {"Bearer " + n.token}}
	var ana, ben, other *browser
	var token api.TokenWithSecret
	var invited api.OperatorWithInvitation
	var capture api.Capture
	certificate, _ := certtest.PEM(t, certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "d7"))
	var command api.DeviceCommand
	pump := "/api/v1/mqtt/sessions/" + base64.RawURLEncoding.EncodeToString([]byte("device\x00d7\x00pump"))
	steps := []struct {
		operation string
		do        func() int
		want      string // action, actor, via, target; the last words of those that vary are left out
		before    string // fields
		after     string
	}{
		{"signIn", func() int {
			return setup.send("POST", "/api/v1/session", object("token", n.control.SignInToken()), nil)
		}, "session.start|setup|first sign-in|setup", "", "kind session"},
		{"signIn", func() int { return n.browser(t).send("POST", "/api/v1/session", object("token", "x"), nil) }, "session.refuse|anonymous||", "", ""},
		{"claim", func() int {
			ana = setup
			return ana.send("POST", "/api/v1/claim", object("name", "ana", "password", longSecret), nil)
		},
			"operator.claim|setup|session|ana", "", "role state"},
		{"addOperator", func() int {
			return ana.send("POST", "/api/v1/operators", object("name", "ben", "role", "auditor"), &invited)
		},
			"operator.add|ana|session|ben", "", "role state"},
		{"inviteOperator", func() int { return ana.send("POST", "/api/v1/operators/ben/invitation", "", &invited) }, "operator.invite|ana|session|ben", "", ""},
		{"setPassword", func() int {
			ben = n.browser(t)
			ben.want(200, "POST", "/api/v1/session", object("token", invited.Token), nil)
			return ben.send("PUT", "/api/v1/session/password", object("password", longSecret), nil)
		}, "operator.password|ben|session|ben", "state", "state"},
		{"updateOperator", func() int { return ana.send("PATCH", "/api/v1/operators/ben", object("role", "owner"), nil) },
			"operator.update|ana|session|ben", "role", "role"},
		{"addToken", func() int { return ben.send("POST", "/api/v1/tokens", `{"name":"build","scopes":["read"]}`, &token) },
			"token.add|ben|session|ben", "", "expires name scopes state token"},
		{"revokeToken", func() int { return ana.send("DELETE", "/api/v1/tokens/"+token.Token.Id, "", nil) }, "token.revoke|ana|session|ben", "state", "state"},
		{"endSession", func() int {
			var session api.Session
			other = n.browser(t)
			other.want(200, "POST", "/api/v1/session", object("name", "ben", "password", longSecret), &session)
			return ben.send("DELETE", "/api/v1/sessions/"+session.Id, "", nil)
		}, "session.end|ben|session|ben", "kind session", ""},
		{"signOut", func() int { return ben.send("DELETE", "/api/v1/session", "", nil) }, "session.end|ben|session|ben", "kind session", ""},
		{"removeOperator", func() int { return ana.send("DELETE", "/api/v1/operators/ben", "", nil) }, "operator.remove|ana|session|ben", "role state", ""},

		{"publishApi", func() int {
			return local.raw("POST", "/api/v1/apis?name=thermo.yaml", "application/yaml", thermo)
		}, "api.publish|operator|local|thermo 2.4.0", "", "digest operations state title"},
		{"deprecateVersion", func() int {
			return ana.send("POST", "/api/v1/apis/thermo/versions/2.4.0/deprecate", object("sunset", "2027-06-30T00:00:00Z"), nil)
		}, "api.deprecate|ana|session|thermo 2.4.0", "state", "state sunset"},
		{"retireVersion", func() int { return ana.send("POST", "/api/v1/apis/thermo/versions/2.4.0/retire", "", nil) },
			"api.retire|ana|session|thermo 2.4.0", "state", "state"},
		{"restoreVersion", func() int { return ana.send("POST", "/api/v1/apis/thermo/versions/2.4.0/restore", "", nil) },
			"api.restore|ana|session|thermo 2.4.0", "state sunset", "state"},
		{"addDevice", func() int { return ana.send("POST", "/api/v1/devices", object("id", "d7", "model", "T2"), nil) },
			"device.add|ana|session|d7", "", "credentials model state"},
		{"importDevices", func() int {
			return local.raw("POST", "/api/v1/imports/devices", "application/x-ndjson", "{\"id\":\"d8\"}\n{\"id\":\"d9\"}\n")
		}, "device.import|operator|local|d8", "", "devices"},
		{"publishApis", func() int {
			line, err := json.Marshal(api.NamedDocument{Document: strings.NewReplacer("Thermo", "Hygro", "/telemetry", "/humidity").Replace(thermo)})
			if err != nil {
				t.Fatal(err)
			}
			return local.raw("POST", "/api/v1/imports/apis", "application/x-ndjson", string(line))
		}, "api.publish|operator|local|hygro 2.4.0", "", "digest operations state title"},
		{"updateDevice", func() int { return ana.send("PATCH", "/api/v1/devices/d7", object("firmware", "1.9"), nil) },
			"device.update|ana|session|d7", "", "firmware"},
		{"issueDeviceToken", func() int { return ana.send("POST", "/api/v1/devices/d7/token", "", nil) },
			"device.token|ana|session|d7", "credentials", "credentials"},
		{"setDevicePsk", func() int {
			return ana.send("PUT", "/api/v1/devices/d7/psk", object("identity", "meter", "key", longPSK), nil)
		},
			"device.psk|ana|session|d7", "", "psk pskIdentity"},
		{"removeDevicePsk", func() int { return ana.send("DELETE", "/api/v1/devices/d7/psk", "", nil) }, "device.psk|ana|session|d7", "psk pskIdentity", ""},
		{"setDeviceOscore", func() int {
			return ana.send("PUT", "/api/v1/devices/d7/oscore", `{"context":{"masterSecret":"`+longPSK+`","senderId":"07","recipientId":"00"}}`, nil)
		},
			"device.oscore|ana|session|d7", "", "oscore oscoreName"},
		{"removeDeviceOscore", func() int { return ana.send("DELETE", "/api/v1/devices/d7/oscore", "", nil) }, "device.oscore|ana|session|d7", "oscore oscoreName", ""},
		{"addDeviceCertificate", func() int {
			return ana.send("POST", "/api/v1/devices/d7/certificates", object("certificate", string(certificate)), nil)
		},
			"device.certificate|ana|session|d7", "", "certificates"},
		{"removeDeviceCertificate", func() int {
			block, _ := pem.Decode(certificate)
			return ana.send("DELETE", fmt.Sprintf("/api/v1/devices/d7/certificates/%x", sha256.Sum256(block.Bytes)), "", nil)
		},
			"device.certificate|ana|session|d7", "certificates", ""},
		{"quarantineDevice", func() int { return ana.send("POST", "/api/v1/devices/d7/quarantine", "", nil) },
			"device.quarantine|ana|session|d7", "state", "state"},
		{"releaseDevice", func() int { return ana.send("POST", "/api/v1/devices/d7/release", "", nil) }, "device.release|ana|session|d7", "state", "state"},
		{"queueDeviceCommand", func() int {
			return ana.send("POST", "/api/v1/devices/d8/commands", `{"request":{"method":"put","path":"/3/0/4","body":"eA=="},"waitSeconds":60}`, &command)
		}, "device.command|ana|session|d8", "", "bytes method path"},
		{"cancelDeviceCommand", func() int { return ana.send("POST", "/api/v1/devices/d8/commands/"+command.Id+"/cancel", "", nil) },
			"device.command-cancel|ana|session|d8", "", ""},
		{"askDevice", func() int {
			n.playsDevice(t, "g7", "d8")
			return ana.send("POST", "/api/v1/devices/d8/requests", `{"method":"GET","path":"/t"}`, nil)
		}, "device.request|ana|session|d8", "", "method path"},
		{"revokeDevice", func() int { return ana.send("POST", "/api/v1/devices/d7/revoke", "", nil) },
			"device.revoke|ana|session|d7", "credentials state", "credentials state"},
		{"addApp", func() int { return ana.send("POST", "/api/v1/apps", object("id", "board"), nil) }, "app.add|ana|session|board", "", "credentials state"},
		{"updateApp", func() int { return ana.send("PATCH", "/api/v1/apps/board", object("name", "Board"), nil) }, "app.update|ana|session|board", "", "name"},
		{"issueAppKey", func() int { return ana.send("POST", "/api/v1/apps/board/key", "", nil) }, "app.key|ana|session|board", "credentials", "credentials"},
		{"revokeApp", func() int { return ana.send("POST", "/api/v1/apps/board/revoke", "", nil) },
			"app.revoke|ana|session|board", "credentials state", "credentials state"},
		{"registerTarget", func() int {
			return ana.send("PUT", "/api/v1/upstreams/ingest/targets/http%3A%2F%2F10.0.0.7%3A9000", "{}", nil)
		},
			"target.register|ana|session|ingest", "", "address priority ttlSeconds weight"},
		{"removeTarget", func() int {
			return ana.send("DELETE", "/api/v1/upstreams/ingest/targets/http%3A%2F%2F10.0.0.7%3A9000", "", nil)
		},
			"target.remove|ana|session|ingest", "address priority ttlSeconds weight", ""},
		{"startCapture", func() int { return ana.send("POST", "/api/v1/captures", `{"seconds":60}`, &capture) }, "capture.start|ana|session|", "", "*"},
		{"endCapture", func() int { return ana.send("DELETE", "/api/v1/captures/"+capture.Id, "", nil) }, "capture.end|ana|session|", "", ""},
		{"disconnectMqttSession", func() int {
			n.plays(t, "g1", &mqttGateway{sessions: []fieldgate.MQTTSession{mqttSession("pump", "d7", time.Now(), true)},
				retained: []fieldgate.MQTTRetained{{MQTTMessage: fieldgate.MQTTMessage{Topic: "a/b"}}}})
			return ana.send("POST", pump+"/disconnect", "", nil)
		}, "mqtt-session.disconnect|ana|session|pump", "", "nodes principal queued"},
		{"endMqttSession", func() int { return ana.send("DELETE", pump, "", nil) }, "mqtt-session.end|ana|session|pump", "nodes principal queued", ""},
		{"getRetained", func() int { return ana.send("GET", "/api/v1/mqtt/retained/message?topic=a/b", "", nil) }, "retained.look|ana|session|a/b", "", ""},
		{"deleteRetained", func() int { return ana.send("DELETE", "/api/v1/mqtt/retained/message?topic=a/b", "", nil) },
			"retained.delete|ana|session|a/b", "bytes nodes publisher", ""},
		{"endCoapObservation", func() int {
			return ana.send("DELETE", "/api/v1/coap/observations/ZzEAY29hcAAxMjcuMC4wLjE6NDAwMABhYQ", "", nil)
		}, // g1, coap, 127.0.0.1:4000, aa
			"coap-observation.end|ana|session|127.0.0.1:4000", "", ""},
		{"endCoapSession", func() int {
			n.playsCoAP(t, "g1", &coapGateway{peers: []fieldgate.CoAPPeer{coapPeer("g1", "coaps", "127.0.0.1:4000", "d7")}}, fieldgate.GatewayState{})
			return ana.send("DELETE", "/api/v1/coap/peers/ZzEAY29hcHMAMTI3LjAuMC4xOjQwMDA", "", nil)
		}, "coap-session.end|ana|session|d7", "", ""}, // g1, coaps, 127.0.0.1:4000
	}
	missing := make(map[string]bool)
	for id, o := range contractOperations(t) {
		if o.method != "GET" {
			missing[id] = true
		}
	}
	for _, step := range steps {
		delete(missing, step.operation)
		status := step.do()
		if status == http.StatusNotImplemented {
			continue // what does not decide yet leaves nothing
		}
		if refused := strings.HasPrefix(step.want, "session.refuse"); status >= 300 != refused {
			t.Fatalf("%s: %d", step.operation, status)
		}
		entries, err := audit.List(t.Context(), n.control.config.Store, audit.Filter{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		e := entries[0]
		got := strings.Join([]string{e.Action, e.Actor.Name, e.Actor.Via, e.Target}, "|")
		if got != step.want && !(strings.HasSuffix(step.want, "|") && strings.HasPrefix(got, step.want)) {
			t.Errorf("%s: %s, want %s", step.operation, got, step.want)
		}
		if e.Actor.Source != "127.0.0.1" || e.Actor.Request == "" {
			t.Errorf("%s: %+v", step.operation, e.Actor)
		}
		if step.after != "*" && (fieldNames(t, e.Before) != step.before || fieldNames(t, e.After) != step.after) {
			t.Errorf("%s: %s → %s", step.operation, e.Before, e.After)
		}
		for _, secret := range []string{longSecret, longPSK, n.token, token.Secret, invited.Token} {
			if secret != "" && strings.Contains(fmt.Sprintf("%+v %s %s", e, e.Before, e.After), secret) {
				t.Errorf("%s: a secret is in the audit", step.operation)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("nobody says what these leave in the audit: %s", slices.Sorted(maps.Keys(missing)))
	}
}

// raw sends a body of another type, and reads the answer to its end.
func (b *browser) raw(method, path, contentType, body string) int {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+b.control.Address()+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header = b.header.Clone()
	request.Header.Set("Content-Type", contentType)
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode
}

func fieldNames(t *testing.T, encoded json.RawMessage) string {
	t.Helper()
	if encoded == nil {
		return ""
	}
	var fields map[string]any
	if err := json.Unmarshal(encoded, &fields); err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(fields)), " ")
}
