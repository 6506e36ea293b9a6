package pipeline

import (
	"bytes"
	"slices"
	"strings"

	"fieldgate"
)

// node is one level of a router for paths or topics. Literal children come before those with a parameter, so that /devices/all wins
// over /devices/{deviceId}, and of these the ones with more text around it, so that {id}.json wins over {id}.
type node struct {
	literals  map[string]*node
	affixed   []affixed // the most text first
	parameter *node
	// operations that end here, by method: requests over HTTP and CoAP, MethodPublish for MQTT publishes. Subscriptions to a
	// topic stand apart, since many operations may offer the same one.
	operations [fieldgate.Methods]*target
	subscribe  []*target
}

// target is an operation with the parameter numbers of its template's variable levels, in order.
type target struct {
	operation *Operation
	levels    []string // the template's levels; "{name}" is a parameter
	numbers   []int    // parameter number of each variable level; -1 where the operation declares none
	choice    *choice  // instead of all that, where requests with this route mean different operations
}

// affixed are the children with text before or after the parameter, of certain lengths in bytes. However many there are, one costs a
// look-up for each pair of lengths.
type affixed struct {
	before, after int
	children      map[string]*node // by the text before and after, joined
}

func newTarget(operation *Operation, template string) *target {
	t := &target{operation: operation, levels: strings.Split(template, "/")}
	for _, level := range t.levels {
		if _, name, _, ok := cutParameter(level); ok {
			t.numbers = append(t.numbers, operation.parameterNumber(name))
		}
	}
	return t
}

// cutParameter takes a level of a template apart: "prefix-{name}.suffix".
func cutParameter(level string) (before, name, after string, ok bool) {
	before, rest, opens := strings.Cut(level, "{")
	name, after, closes := strings.Cut(rest, "}")
	return before, name, after, opens && closes && name != ""
}

// at finds or makes the node of a template.
func (n *node) at(levels []string) *node {
	for _, level := range levels {
		before, _, after, ok := cutParameter(level)
		switch {
		case !ok:
			n = childAt(&n.literals, level)
		case before != "" || after != "":
			n = n.affixedAt(before, after)
		default:
			if n.parameter == nil {
				n.parameter = &node{}
			}
			n = n.parameter
		}
	}
	return n
}

func childAt(children *map[string]*node, name string) *node {
	child := (*children)[name]
	if child == nil {
		child = &node{}
		if *children == nil {
			*children = make(map[string]*node)
		}
		(*children)[name] = child
	}
	return child
}

// affixedAt finds or makes the child with that text around its parameter. Two that explain the same level differ in how much text
// they have, or in how much of it stands before the parameter: so the order says which wins.
func (n *node) affixedAt(before, after string) *node {
	i := slices.IndexFunc(n.affixed, func(a affixed) bool { return a.before == len(before) && a.after == len(after) })
	if i < 0 {
		i = len(n.affixed)
		n.affixed = append(n.affixed, affixed{before: len(before), after: len(after)})
	}
	child := childAt(&n.affixed[i].children, before+after)
	slices.SortFunc(n.affixed, func(a, b affixed) int {
		if a.before+a.after != b.before+b.after {
			return b.before + b.after - a.before - a.after
		}
		return b.before - a.before
	})
	return child
}

// finish completes the choices below the node.
func (n *node) finish() {
	for _, t := range n.operations {
		if t != nil && t.choice != nil {
			t.choice.finish()
		}
	}
	for _, child := range n.literals {
		child.finish()
	}
	for i := range n.affixed {
		for _, child := range n.affixed[i].children {
			child.finish()
		}
	}
	if n.parameter != nil {
		n.parameter.finish()
	}
}

// search is one walk through a router.
type search struct {
	method fieldgate.Method
	values [fieldgate.MaxPathSegments][]byte // the variable levels on the way
	depth  int                               // how many of them
	other  *node                             // where the path is known, but not with this method
}

// find walks a path or topic to the operation whose template explains it, literals first.
func (n *node) find(rest []byte, s *search) *target {
	level, rest, more := bytes.Cut(rest, separator)
	if child := n.literals[string(level)]; child != nil {
		if t := child.descend(rest, more, s); t != nil {
			return t
		}
	}
	// A variable level is never empty: "/devices//telemetry" names no device.
	if len(level) == 0 || s.depth == len(s.values) {
		return nil
	}
	for i := range n.affixed {
		if t := n.affixed[i].find(level, rest, more, s); t != nil {
			return t
		}
	}
	if n.parameter == nil {
		return nil
	}
	return n.parameter.descendBy(level, rest, more, s)
}

// find looks for a child whose text stands around the level's value.
func (a *affixed) find(level, rest []byte, more bool, s *search) *target {
	last := len(level) - a.after
	if last <= a.before {
		return nil // nothing is left for the value
	}
	var buffer [128]byte
	around := append(append(buffer[:0], level[:a.before]...), level[last:]...)
	child := a.children[string(around)]
	if child == nil {
		return nil
	}
	return child.descendBy(level[a.before:last], rest, more, s)
}

// descendBy goes on with the value of a variable level.
func (n *node) descendBy(value, rest []byte, more bool, s *search) *target {
	s.values[s.depth] = value
	s.depth++
	t := n.descend(rest, more, s)
	if t == nil {
		s.depth--
	}
	return t
}

var separator = []byte{'/'}

func (n *node) descend(rest []byte, more bool, s *search) *target {
	if more {
		return n.find(rest, s)
	}
	t := n.operations[s.method]
	if t == nil && s.other == nil && n.allow() != "" {
		s.other = n
	}
	return t
}

// allow lists the methods of a path as in the Allow field (RFC 9110 section 10.2.1).
func (n *node) allow() string {
	var methods []string
	for m, t := range n.operations {
		if t != nil {
			methods = append(methods, fieldgate.Method(m).String())
		}
	}
	return strings.Join(methods, ", ")
}
