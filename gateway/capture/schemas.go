package capture

import (
	"encoding/json"
	"strings"

	"fieldgate"
)

// schemas are a contract's schemas as they are written, to be asked which values are secret. Where several schemas apply to a value,
// or may, one that says that it is secret is enough.
type schemas struct {
	root any
}

func newSchemas(contract *fieldgate.Contract) *schemas {
	s := &schemas{}
	if contract != nil && len(contract.Schemas) > 0 {
		if json.Unmarshal(contract.Schemas, &s.root) != nil {
			s.root = nil // then no reference leads anywhere, and all is taken for secret
		}
	}
	return s
}

// ref is the schema that a reference leads to; unknown where it leads nowhere.
func (s *schemas) ref(ref string) any {
	pointer, ok := strings.CutPrefix(ref, "#")
	if !ok || pointer != "" && pointer[0] != '/' {
		return unknown
	}
	at := s.root
	for pointer != "" {
		var token string
		token, pointer, _ = strings.Cut(pointer[1:], "/")
		if pointer != "" {
			pointer = "/" + pointer
		}
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch container := at.(type) {
		case map[string]any:
			at = container[token]
		case []any:
			at = nil
			if i, ok := index(token); ok && i < len(container) {
				at = container[i]
			}
		default:
			return unknown
		}
	}
	if at == nil {
		return unknown
	}
	return at
}

// unknown is a schema that cannot be followed.
const unknown = "unknown"

// maxSchemas bounds how many schemas may apply to one value.
const maxSchemas = 1000

// inPlace lists the schemas that apply, or may apply, to the same value as the given ones; whole is false where they cannot all be
// found.
func (s *schemas) inPlace(given []any) (all []map[string]any, whole bool) {
	seen := make(map[string]bool)
	waiting := append([]any(nil), given...)
	for len(waiting) > 0 {
		one := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		schema, ok := one.(map[string]any)
		if !ok {
			if _, isBool := one.(bool); isBool {
				continue
			}
			return nil, false
		}
		if all = append(all, schema); len(all) > maxSchemas {
			return nil, false
		}
		if ref, ok := schema["$ref"].(string); ok && !seen[ref] {
			seen[ref] = true
			waiting = append(waiting, s.ref(ref))
		}
		if _, dynamic := schema["$dynamicRef"]; dynamic {
			return nil, false
		}
		for _, word := range []string{"allOf", "anyOf", "oneOf"} {
			if list, ok := schema[word].([]any); ok {
				waiting = append(waiting, list...)
			}
		}
		for _, word := range []string{"not", "if", "then", "else"} {
			if one, ok := schema[word]; ok {
				waiting = append(waiting, one)
			}
		}
		waiting = append(waiting, members(schema["dependentSchemas"])...)
	}
	return all, true
}

func members(of any) (list []any) {
	if object, ok := of.(map[string]any); ok {
		for _, member := range object {
			list = append(list, member)
		}
	}
	return list
}

// secret says why a value that the schemas apply to is secret; empty if it is not.
func secret(all []map[string]any) string {
	for _, schema := range all {
		switch {
		case schema["writeOnly"] == true:
			return whyWriteOnly
		case schema["format"] == "password":
			return whyPassword
		}
	}
	return ""
}

// member lists the schemas that apply, or may apply, to an object's member of that name.
func member(all []map[string]any, name string) (list []any) {
	for _, schema := range all {
		if properties, ok := schema["properties"].(map[string]any); ok && properties[name] != nil {
			list = append(list, properties[name])
		}
		list = append(list, members(schema["patternProperties"])...)
		for _, word := range []string{"additionalProperties", "unevaluatedProperties"} {
			if one, ok := schema[word]; ok {
				list = append(list, one)
			}
		}
	}
	return list
}

// item lists the schemas that apply, or may apply, to an array's items.
func item(all []map[string]any) (list []any) {
	for _, schema := range all {
		for _, word := range []string{"items", "contains", "unevaluatedItems"} {
			if one, ok := schema[word]; ok {
				list = append(list, one)
			}
		}
		if prefix, ok := schema["prefixItems"].([]any); ok {
			list = append(list, prefix...)
		}
	}
	return list
}

func index(token string) (n int, ok bool) {
	if token == "" || len(token) > 6 {
		return 0, false
	}
	for _, c := range []byte(token) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}
