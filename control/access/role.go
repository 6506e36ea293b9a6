package access

import (
	"slices"
	"strings"
)

// Scope is one thing that operators may do.
type Scope string

// The scopes; each operation of the admin API needs one.
const (
	ScopeRead         Scope = "read"
	ScopeAuditRead    Scope = "audit.read"
	ScopeAPIsWrite    Scope = "apis.write"
	ScopeAppsWrite    Scope = "apps.write"
	ScopeDevicesWrite Scope = "devices.write"
	ScopeTargetsWrite Scope = "targets.write"
	ScopeAccessWrite  Scope = "access.write"
)

// Role is a set of scopes with a name.
type Role string

// The roles.
const (
	RoleAuditor   Role = "auditor"
	RoleDeveloper Role = "developer"
	RoleOperator  Role = "operator"
	RoleOwner     Role = "owner"
)

// roles are in the order in which they can do more.
var roles = []struct {
	role   Role
	scopes []Scope
}{
	{RoleAuditor, []Scope{ScopeRead, ScopeAuditRead}},
	{RoleDeveloper, []Scope{ScopeRead, ScopeAPIsWrite, ScopeAppsWrite}},
	{RoleOperator, []Scope{ScopeRead, ScopeAPIsWrite, ScopeAppsWrite, ScopeDevicesWrite, ScopeTargetsWrite, ScopeAuditRead}},
	{RoleOwner, []Scope{ScopeRead, ScopeAPIsWrite, ScopeAppsWrite, ScopeDevicesWrite, ScopeTargetsWrite, ScopeAuditRead, ScopeAccessWrite}},
}

// Scopes is what a role may do; nothing for an unknown one.
func (r Role) Scopes() []Scope {
	for _, known := range roles {
		if known.role == r {
			return slices.Clone(known.scopes)
		}
	}
	return nil
}

// RolesWith lists the roles that have a scope, such as "developer, operator or owner".
func RolesWith(scope Scope) string {
	var names []string
	for _, known := range roles {
		if slices.Contains(known.scopes, scope) {
			names = append(names, string(known.role))
		}
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
