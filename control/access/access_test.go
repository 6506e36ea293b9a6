package access

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/control/controltest"
	"fieldgate/control/directory"
	"fieldgate/control/refusal"
)

func TestOperatorToken(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	operator, token, err := LoadOperator(data)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, OperatorTokenFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	if !strings.HasPrefix(token, fieldgate.PrefixOperator) || !operator.Verify([]byte(token)) {
		t.Fatal("the operator's own token is refused")
	}
	other, err := fieldgate.NewToken(fieldgate.PrefixOperator)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", other, token + " ", token[:len(token)-1]} {
		if operator.Verify([]byte(wrong)) {
			t.Errorf("%q is accepted", wrong)
		}
	}
	if _, again, err := LoadOperator(data); err != nil || again != token {
		t.Fatalf("%v: another token the second time", err)
	}

	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOperator(data); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("others can read the token: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ofDevice, err := fieldgate.NewToken(fieldgate.PrefixDevice)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"fgp_damaged", ofDevice} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadOperator(data); err == nil || strings.Contains(err.Error(), content) {
			t.Errorf("%q is taken for the operator's token: %v", content, err)
		}
	}
}

func TestLifeOfAnApp(t *testing.T) {
	ctx := controltest.Context(t)
	data := t.TempDir()
	db := controltest.Store(t, data)
	apps := NewApps(db, directory.New(db, controltest.Bus(t, data), controltest.Log(t)))
	app, key, err := apps.Add(ctx, NewApp{ID: "dashboard", Name: "Dashboard", Scopes: []string{"telemetry:read", "commands:write"}})
	if err != nil || !strings.HasPrefix(key, fieldgate.PrefixApp) || app.Credentials[0] != fieldgate.HashToken([]byte(key)) {
		t.Fatalf("%v %+v", err, app)
	}
	found, err := apps.Get(ctx, "dashboard")
	if err != nil || strings.Join(found.Scopes, " ") != "telemetry:read commands:write" || found.Name != "Dashboard" {
		t.Fatalf("%+v %v", found, err)
	}
	if app, _, err = apps.IssueKey(ctx, "dashboard", true, directory.Basis{}); err != nil || len(app.Credentials) != 2 {
		t.Fatalf("%+v %v", app, err)
	}
	if app, err = apps.Revoke(ctx, "dashboard", directory.Basis{}); err != nil || app.State != fieldgate.StateRevoked || app.Credentials != nil {
		t.Fatalf("%+v %v", app, err)
	}
	var refused *refusal.Error
	if _, _, err := apps.IssueKey(ctx, "dashboard", false, directory.Basis{}); !errors.As(err, &refused) || refused.Code != refusal.CodeConflict {
		t.Fatalf("a key for a revoked app: %v", err)
	}
	for _, invalid := range []NewApp{{ID: "a b"}, {ID: "a", Scopes: []string{"x y"}}, {ID: "a", Scopes: []string{""}},
		{ID: "a", Scopes: make([]string, 65)}, {ID: "a", Name: "\n"}} {
		if _, _, err := apps.Add(ctx, invalid); !errors.As(err, &refused) || refused.Code != refusal.CodeInvalid {
			t.Errorf("%+v: %v", invalid, err)
		}
	}
	if list, err := apps.List(ctx, directory.Filter{Limit: 10}); err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
}
