package contract

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/contract/schema"
)

// projection reads what some receivers see less.
func (c *compiler) projection(n *node) fieldgate.Projection {
	p := fieldgate.Projection{For: c.receivers(n.get("for")), Except: c.receivers(n.get("except")), Remove: n.get("remove").strings(), Mask: n.get("mask").strings()}
	named := make(map[string]bool)
	eachMember(n, func(at *node, path string) {
		names := fieldgate.SplitPath(path)
		switch {
		case slices.Contains(names, ""):
			c.fail(at, "write it like driver/name; lists are gone through", "%q is no path of a member", excerpt(path))
		case len(names) > fieldgate.MaxProjectionLevels:
			c.fail(at, "name a member above it", "a path has at most %d levels", fieldgate.MaxProjectionLevels)
		case named[path]:
			c.fail(at, "keep one", "%q is named twice", excerpt(path))
		}
		named[path] = true
	})
	if len(named) == 0 {
		c.fail(n, "add remove, mask or coarsen", "the policy takes nothing away")
	}
	for _, item := range n.get("coarsen").all() {
		p.Coarsen = append(p.Coarsen, c.coarsening(item))
	}
	c.private = append(c.private, n)
	return p
}

// eachMember visits the members that a policy names.
func eachMember(policy *node, visit func(at *node, path string)) {
	for _, list := range []string{"remove", "mask"} {
		for _, item := range policy.get(list).all() {
			visit(item, item.string())
		}
	}
	for _, item := range policy.get("coarsen").all() {
		visit(item, item.name)
	}
}

// coarsening reads a step of numbers, or of times.
func (c *compiler) coarsening(n *node) fieldgate.Coarsening {
	step := fieldgate.Coarsening{Member: n.name}
	whole, fraction, _ := strings.Cut(n.string(), ".")
	decimal := func(digits string) bool { return strings.Trim(digits, "0123456789") == "" }
	if decimal(whole) && decimal(fraction) && whole != "" {
		step.Step = n.string()
		if value, err := strconv.ParseFloat(step.Step, 64); err != nil || value <= 0 || len(step.Step) > 16 {
			c.fail(n, "write it like 0.01, 5 or 1h", "%q is no step of numbers above 0 with at most 16 characters", excerpt(step.Step))
		}
		return step
	}
	step.Every = c.duration(n, time.Second, 365*24*time.Hour)
	return step
}

func (c *compiler) receivers(n *node) *fieldgate.Receivers {
	if n == nil {
		return nil
	}
	r := &fieldgate.Receivers{Apps: n.get("apps").strings(), Scopes: n.get("scopes").strings(), Models: n.get("models").strings(), Firmware: n.get("firmware").strings()}
	for _, kind := range n.get("access").strings() {
		r.Kinds = append(r.Kinds, fieldgate.PrincipalKind(kind))
	}
	if len(r.Kinds)+len(r.Apps)+len(r.Scopes)+len(r.Models)+len(r.Firmware) == 0 {
		c.fail(n, "write whom, such as {access: [app]}; without "+n.name+" it is "+map[string]string{"for": "everybody", "except": "nobody"}[n.name], "%s names nobody", n.name)
	}
	return r
}

// pendingPrivacy is an operation whose policies wait until the schemas are compiled, which may tell that a member is misspelt.
type pendingPrivacy struct {
	operation string
	policies  []*node
	schemas   []fieldgate.SchemaRef // of what receivers get
}

// checkPrivacy looks at what the operation's receivers get.
func (c *compiler) checkPrivacy(op *fieldgate.Operation, at *node) {
	pending := pendingPrivacy{operation: op.ID, policies: c.private}
	c.private = nil
	if len(pending.policies) == 0 {
		return
	}
	if op.HTTP != nil && op.HTTP.WebSocket {
		c.fail(pending.policies[0], "leave out one of the two", "%s passes WebSockets through, whose messages privacy does not look into", op.ID)
	}
	if op.MQTT != nil && op.MQTT.Action == fieldgate.ActionPublish {
		if slices.ContainsFunc(at.get("policies").all(), func(n *node) bool { return n.get("privacy") != nil }) {
			c.warn(at, "write it at the operation by which its messages are heard", "%s publishes: privacy is for those who receive", op.ID)
		}
		op.Policies.Privacy = nil
		return
	}
	add := func(media []fieldgate.MediaType) {
		for i := range media {
			pending.schemas = append(pending.schemas, media[i].Schema)
		}
	}
	if op.Message != nil {
		add(op.Message.Media)
	}
	for i := range op.Responses {
		if strings.HasPrefix(op.Responses[i].Status, "2") {
			add(op.Responses[i].Media)
		}
	}
	c.privacy = append(c.privacy, pending)
}

// checkMembers warns of members that no schema knows: a misspelt one would be shown to those who must not see it.
func (c *compiler) checkMembers(compiled map[fieldgate.SchemaRef]*schema.Schema) {
	for _, p := range c.privacy {
		unknown := func(path string) bool {
			return len(p.schemas) > 0 && !slices.ContainsFunc(p.schemas, func(ref fieldgate.SchemaRef) bool {
				s := compiled[ref]
				return s == nil || s.Describes(fieldgate.SplitPath(path))
			})
		}
		for _, policy := range p.policies {
			eachMember(policy, func(at *node, path string) {
				if unknown(path) {
					c.warn(at, "write it as the schema has it", "no schema of what %s gives has the member %q", p.operation, excerpt(path))
				}
			})
		}
	}
}
