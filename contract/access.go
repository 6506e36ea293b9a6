package contract

import (
	"slices"
	"strings"

	"fieldgate"
)

// requirement is what a document's own security words demand of the callers of an operation.
type requirement struct {
	given     bool // the document says something
	anonymous bool // and it is that no credential is needed
	optional  bool // or that a credential may be left out
	scopes    []string
	headers   []string
}

// addScheme takes one security scheme of OpenAPI 3 or AsyncAPI 3 into account. Whatever the scheme, the credential is one
// of Fieldgate's own; schemes say where callers put it.
func (c *compiler) addScheme(r *requirement, n *node) {
	switch kind := n.get("type").string(); kind {
	case "http":
		if s := strings.ToLower(n.get("scheme").string()); s != "bearer" && s != "basic" {
			c.fail(n.get("scheme"), "use bearer or basic", "the HTTP scheme %q is not supported", excerpt(s))
		}
	case "apiKey", "httpApiKey":
		c.addKey(r, n)
	case "mutualTLS", "X509", "oauth2", "openIdConnect", "userPassword", "plain", "scramSha256", "scramSha512":
	default:
		c.fail(n, "use http, apiKey in a header, mutualTLS, oauth2 or, in AsyncAPI, userPassword or X509", "the security scheme %q is not supported", excerpt(kind))
	}
}

func (c *compiler) addKey(r *requirement, n *node) {
	switch place := n.get("in").string(); place {
	case "header":
		name := strings.ToLower(n.get("name").string())
		if !isToken(name) {
			c.fail(n, "name the header field that carries the key", "%q is not the name of a header field", excerpt(name))
			return
		}
		if !slices.Contains(r.headers, name) {
			r.headers = append(r.headers, name)
		}
	case "user", "password": // of AsyncAPI's apiKey: the fields of MQTT's CONNECT
	case "query", "cookie":
		c.fail(n.get("in"), "put the key into a header: in: header", "a key in a %s ends up in logs and caches; it is not accepted there", place)
	default:
		c.fail(n.get("in"), "write in: header", "a key cannot be in %q", excerpt(place))
	}
}

// isToken says whether name may be a header field's name (RFC 9110 section 5.6.2).
func isToken(name string) bool {
	return name != "" && len(name) <= fieldgate.MaxIdentifierBytes && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

// readAccess decides who may use the operation: what x-fieldgate says wins, then the document's security, and without
// either a credential is needed.
func (c *compiler) readAccess(op *fieldgate.Operation, at *node, r requirement, levels []*node) {
	bound := hasBound(op)
	a := &op.Access
	a.Headers, a.Scopes = r.headers, r.scopes
	for _, scope := range inherited("scopes", levels...).all() {
		if !slices.Contains(a.Scopes, scope.string()) {
			a.Scopes = append(a.Scopes, scope.string())
		}
	}
	explicit := inherited("access", levels...)
	switch {
	case explicit != nil:
		for _, who := range explicit.strings() {
			if who == "anonymous" {
				a.Anonymous = true
			} else if !slices.Contains(a.Kinds, fieldgate.PrincipalKind(who)) {
				a.Kinds = append(a.Kinds, fieldgate.PrincipalKind(who))
			}
		}
		if len(explicit.all()) == 0 {
			c.fail(explicit, "name device, app or anonymous", "access lets nobody in")
		}
		if a.Anonymous && r.given && !r.anonymous && !r.optional {
			c.warn(explicit, "leave out one of the two", "access opens %s to everybody, although its security demands a credential", op.ID)
		}
	case r.anonymous:
		a.Anonymous = true
	default:
		a.Anonymous = r.optional
		a.Kinds = []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}
		if !bound {
			a.Kinds = append(a.Kinds, fieldgate.PrincipalApp)
		}
		if !r.given {
			c.warn(at, "say it with security, or open it with security: []", "%s says nothing of security; a credential is needed", op.ID)
		}
	}
	if a.Anonymous && bound {
		c.fail(at, "demand a credential, or take the binding away", "%s binds a parameter to the caller, but lets in callers without a name", op.ID)
	}
}

func hasBound(op *fieldgate.Operation) bool {
	return slices.ContainsFunc(op.Parameters, func(p fieldgate.Parameter) bool { return p.Bound })
}

func (r *requirement) addScopes(scopes []string) {
	for _, scope := range scopes {
		if !slices.Contains(r.scopes, scope) {
			r.scopes = append(r.scopes, scope)
		}
	}
}

// checkOwnerless reports routes of apps that lack a parameter whose value only a device's own name could give.
func (c *compiler) checkOwnerless(op *fieldgate.Operation, at *node) {
	if op.HTTP == nil || !slices.Contains(op.Access.Kinds, fieldgate.PrincipalApp) {
		return
	}
	for _, p := range op.Parameters {
		if p.Bound && p.In == fieldgate.InPath && !strings.Contains(op.HTTP.Path, "{"+p.Name+"}") {
			c.fail(at, "add {"+p.Name+"} to the path, or let in devices only", "an app that calls %s has no way to say %s", op.ID, p.Name)
		}
	}
}
