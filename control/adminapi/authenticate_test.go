package adminapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"fieldgate/api"
)

func TestCookieOverTLS(t *testing.T) {
	for _, secure := range []bool{false, true} {
		var given []*http.Cookie
		ask := &asked{secure: secure, cookie: func(c *http.Cookie) { given = append(given, c) }}
		ask.giveCookie("secret", time.Now().Add(time.Hour))
		ask.giveCookie("", time.Time{})
		for i, c := range given {
			name := "fieldgate-session"
			if secure {
				name = "__Host-fieldgate-session" // RFC 6265bis section 4.1.3.2: Secure, Path=/, no Domain
			}
			if c.Name != name || c.Secure != secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || (c.MaxAge < 0) != (i == 1) {
				t.Errorf("%s", c)
			}
			if err := c.Valid(); err != nil {
				t.Error(err)
			}
		}
	}
}

// An operation whose contract forgets its scope does not start.
func TestEveryOperationNamesItsScope(t *testing.T) {
	all, err := neededOf(api.Document)
	if err != nil || len(all) < 40 {
		t.Fatal(len(all), err)
	}
	for name, security := range map[string]string{
		"none":          "",
		"no scope":      "security: [{operator: []}]",
		"two scopes":    "security: [{operator: [read, audit.read]}]",
		"another scope": "security: [{operator: [read]}, {session: [apis.write]}]",
		"unknown scope": "security: [{operator: [root]}]",
	} {
		document := "paths: {/x: {get: {operationId: getX, " + security + "}}}"
		if _, err := neededOf([]byte(document)); err == nil || !strings.Contains(err.Error(), "getX") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := neededOf([]byte("paths: {/x: {get: {operationId: getX, security: []}}}")); err != nil || !all["GET /x"].public {
		t.Error(all, err)
	}
}
