package pipeline

import (
	"bytes"
	"strings"

	"fieldgate"
)

// node is one level of a router for paths or topics. Literal children come before the parameter child, so that
// /devices/all wins over /devices/{deviceId}.
type node struct {
	literals  map[string]*node
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
}

func newTarget(operation *Operation, template string) *target {
	t := &target{operation: operation, levels: strings.Split(template, "/")}
	for _, level := range t.levels {
		if name, ok := parameterName(level); ok {
			t.numbers = append(t.numbers, operation.parameterNumber(name))
		}
	}
	return t
}

// parameterName is the name within "{name}".
func parameterName(level string) (string, bool) {
	if len(level) > 2 && level[0] == '{' && level[len(level)-1] == '}' {
		return level[1 : len(level)-1], true
	}
	return "", false
}

// at finds or makes the node of a template.
func (n *node) at(levels []string) *node {
	for _, level := range levels {
		if _, ok := parameterName(level); ok {
			if n.parameter == nil {
				n.parameter = &node{}
			}
			n = n.parameter
			continue
		}
		child := n.literals[level]
		if child == nil {
			child = &node{}
			if n.literals == nil {
				n.literals = make(map[string]*node)
			}
			n.literals[level] = child
		}
		n = child
	}
	return n
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
	if n.parameter == nil || len(level) == 0 || s.depth == len(s.values) {
		return nil
	}
	s.values[s.depth] = level
	s.depth++
	if t := n.parameter.descend(rest, more, s); t != nil {
		return t
	}
	s.depth--
	return nil
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
