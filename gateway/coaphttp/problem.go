package coaphttp

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/protocol/coap"
)

// Keys of RFC 9290 section 2.1.
const (
	keyTitle        = 0x20 // -1
	keyDetail       = 0x21 // -2
	keyInstance     = 0x22 // -3
	keyResponseCode = 0x23 // -4
)

// AppendProblem writes the CBOR map. The problem's type stands as the key of an entry of its own (section 3.1), which
// holds the place in the payload (0) and the clause that it breaks (1).
func AppendProblem(dst []byte, problem *fieldgate.Problem, code coap.Code, instance string) []byte {
	entries := byte(3)
	if problem.Detail != "" {
		entries++
	}
	if instance != "" {
		entries++
	}
	dst = append(dst, cborMap|entries)
	dst = appendText(append(dst, keyTitle), problem.Title())
	if problem.Detail != "" {
		dst = appendText(append(dst, keyDetail), problem.Detail)
	}
	if instance != "" {
		dst = appendText(append(dst, keyInstance), instance)
	}
	dst = appendHead(append(dst, keyResponseCode), cborUnsigned, int(code))
	dst = appendText(dst, problem.TypeURI())
	switch {
	case problem.Pointer == "" && problem.Clause == "":
		return append(dst, cborMap)
	case problem.Clause == "":
		return appendText(append(dst, cborMap|1, 0), problem.Pointer)
	}
	dst = appendText(append(dst, cborMap|2, 0), problem.Pointer)
	return appendText(append(dst, 1), problem.Clause)
}

// Major types of CBOR (RFC 8949 section 3.1) in the place where they stand in the initial byte.
const (
	cborUnsigned = 0 << 5
	cborText     = 3 << 5
	cborMap      = 5 << 5
)

func appendHead(dst []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	}
	return append(dst, major|25, byte(n>>8), byte(n))
}

// appendText cuts a text at what two bytes of length hold; details are sentences.
func appendText(dst []byte, text string) []byte {
	text = text[:min(len(text), 1<<16-1)]
	return append(appendHead(dst, cborText, len(text)), text...)
}

// tunnel is the key of a whole RFC 7807 object within concise problem details (RFC 9290 section 3.3), which have no place for its type and
// further members.
const tunnel = "7807"

// ProblemToJSON makes problem details for HTTP (RFC 9457) of concise ones (RFC 9290). ok is false for what is none.
func ProblemToJSON(concise []byte, status int) (_ []byte, ok bool) {
	text, err := schema.JSONFromCBOR(nil, concise, nil)
	if err != nil {
		return nil, false
	}
	var entries map[string]json.RawMessage
	if json.Unmarshal(text, &entries) != nil || entries == nil {
		return nil, false
	}
	problem := make(map[string]any)
	var tunnelled map[string]json.RawMessage
	if json.Unmarshal(entries[tunnel], &tunnelled) == nil {
		for name, value := range tunnelled {
			problem[name] = value
		}
	}
	for key, name := range map[string]string{"-1": "title", "-2": "detail", "-3": "instance"} {
		if text := textOf(entries[key]); text != "" {
			problem[name] = text
		}
	}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		if !strings.Contains(key, ":") { // only URIs name entries of an application (section 3.2)
			continue
		}
		if _, typed := problem["type"]; !typed {
			problem["type"] = key
		}
		var own struct {
			Pointer string `json:"0"`
			Clause  string `json:"1"`
		}
		if strings.HasPrefix(key, problemURN) && json.Unmarshal(entries[key], &own) == nil {
			if own.Pointer != "" {
				problem["pointer"] = own.Pointer
			}
			if own.Clause != "" {
				problem["clause"] = own.Clause
			}
			continue
		}
		problem[key] = entries[key]
	}
	problem["status"] = status
	encoded, err := json.Marshal(problem)
	return encoded, err == nil
}

var problemURN = (&fieldgate.Problem{}).TypeURI()

// textOf is a text, or that of a text with a language: tag 38, which is an array of the two (section 2.1).
func textOf(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	var withLanguage []any
	if json.Unmarshal(value, &withLanguage) == nil && len(withLanguage) >= 2 {
		text, _ = withLanguage[1].(string)
	}
	return text
}

// ProblemFromJSON makes concise problem details (RFC 9290) of those of HTTP (RFC 9457). Members that have no place there travel in
// a tunnel entry. ok is false for what is none.
func ProblemFromJSON(problem []byte, code coap.Code) (_ []byte, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(problem, &members) != nil || members == nil {
		return nil, false
	}
	var concise []byte
	entries := byte(1)
	for _, standard := range []struct {
		name string
		key  byte
	}{{"title", keyTitle}, {"detail", keyDetail}, {"instance", keyInstance}} {
		if text := textOf(members[standard.name]); text != "" {
			concise = appendText(append(concise, standard.key), text)
			entries++
		}
		delete(members, standard.name)
	}
	concise = appendHead(append(concise, keyResponseCode), cborUnsigned, int(code))
	delete(members, "status")
	if textOf(members["type"]) == "about:blank" {
		delete(members, "type")
	}
	if len(members) > 0 {
		rest, err := json.Marshal(members)
		if err != nil {
			return nil, false
		}
		concise = appendHead(concise, cborUnsigned, 7807)
		if concise, err = schema.CBORFromJSON(concise, rest, nil); err != nil {
			return nil, false
		}
		entries++
	}
	return append([]byte{cborMap | entries}, concise...), true
}
