package catalog

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"fieldgate"
)

// compareOperations says what becomes of each operation, those of the candidate first.
func compareOperations(candidate *fieldgate.Contract, predecessors []*fieldgate.Contract) (changes []OperationChange) {
	type known struct {
		operation *fieldgate.Operation
		encoded   string
	}
	before := make(map[string]known)
	for _, predecessor := range predecessors {
		encode := operationEncoder(predecessor)
		for i := range predecessor.Operations {
			operation := &predecessor.Operations[i]
			if _, twice := before[operation.ID]; !twice {
				before[operation.ID] = known{operation, encode(operation)}
			}
		}
	}
	encode := operationEncoder(candidate)
	for i := range candidate.Operations {
		operation := &candidate.Operations[i]
		change := OperationChange{ID: operation.ID, Change: "added"}
		if old, there := before[operation.ID]; there {
			change.Change = "unchanged"
			if old.encoded != encode(operation) {
				change.Change, change.Rules = "changed", changedRules(old.operation, operation)
			}
			delete(before, operation.ID)
		}
		changes = append(changes, change)
	}
	for _, predecessor := range predecessors { // in their order
		for i := range predecessor.Operations {
			id := predecessor.Operations[i].ID
			if _, left := before[id]; left {
				changes = append(changes, OperationChange{ID: id, Change: "removed"})
				delete(before, id)
			}
		}
	}
	return changes
}

// changedRules says what becomes of an operation's policies and conditions, in the words of contracts.
func changedRules(before, after *fieldgate.Operation) (sentences []string) {
	old, now := rulesOf(before), rulesOf(after)
	var words []string
	for word := range old {
		words = append(words, word)
	}
	for word := range now {
		if _, there := old[word]; !there {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	for _, word := range words {
		was, is := old[word], now[word]
		switch {
		case was == is:
		case is == "":
			sentences = append(sentences, word+" is no more")
		case was == "":
			sentences = append(sentences, word+" is new: "+is)
		default:
			sentences = append(sentences, fmt.Sprintf("%s is %s, was %s", word, is, was))
		}
	}
	return sentences
}

// policyWords are the words of contracts for the members of compiled policies.
var policyWords = map[string]string{"answers": "check-answers", "canaries": "canary"}

// maxRule bounds how much of one rule a sentence shows, in bytes.
const maxRule = 160

// rulesOf is what holds for calls of an operation besides its payloads, by the words of contracts.
func rulesOf(o *fieldgate.Operation) map[string]string {
	rules := map[string]string{"max-body": fmt.Sprintf("%d bytes", o.MaxBody), "on-invalid": string(o.OnInvalid), "upstream": o.Upstream}
	if o.Timeout > 0 {
		rules["timeout"] = o.Timeout.String()
	}
	for _, l := range o.Limits {
		rules["rate"] = strings.TrimPrefix(rules["rate"]+fmt.Sprintf(", %d in %v by %s, burst %d", l.Count, l.Period, l.Key, l.Burst), ", ")
	}
	if o.HTTP != nil {
		for _, c := range o.HTTP.Conditions {
			text := c.Field + ": " + c.Value
			if c.MediaType != "" {
				text = "media type " + c.MediaType
			}
			rules["when"] = strings.TrimPrefix(rules["when"]+", "+text, ", ")
		}
	}
	if o.Policies == nil {
		return rules
	}
	encoded, err := json.Marshal(o.Policies)
	if err != nil {
		panic(err) // plain data
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &members); err != nil {
		panic(err)
	}
	for name, value := range members {
		if word, other := policyWords[name]; other {
			name = word
		}
		switch name {
		case "priority":
			rules[name] = map[fieldgate.Priority]string{fieldgate.PriorityCritical: "critical", fieldgate.PriorityBackground: "background"}[o.Policies.Priority]
		case "hedge":
			rules[name] = o.Policies.Hedge.String()
		default:
			rules[name] = bounded(strings.Trim(string(value), `"`), maxRule)
		}
	}
	return rules
}

// schemaReference finds references to schemas in an encoded operation or schema; their names are escaped (RFC 6901 section 3).
var schemaReference = regexp.MustCompile(`"#/\$defs/([^"/]+)`)

var pointerUnescapes = strings.NewReplacer("~1", "/", "~0", "~")

// operationEncoder gives a function that makes of an operation of the contract a text with all that counts for its callers: the
// operation, and the schemas that it refers to, directly or by way of others.
func operationEncoder(k *fieldgate.Contract) func(*fieldgate.Operation) string {
	var schemas struct {
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	if len(k.Schemas) > 0 {
		if err := json.Unmarshal(k.Schemas, &schemas); err != nil {
			panic(err) // made by the compiler
		}
	}
	return func(operation *fieldgate.Operation) string {
		encoded, err := json.Marshal(operation)
		if err != nil {
			panic(err) // plain data
		}
		var text strings.Builder
		known := make(map[string]bool)
		for parts := [][]byte{encoded}; len(parts) > 0; {
			part := parts[0]
			parts = parts[1:]
			text.Write(part)
			text.WriteByte('\n')
			for _, found := range schemaReference.FindAllSubmatch(part, -1) {
				name := pointerUnescapes.Replace(string(found[1]))
				if !known[name] {
					known[name] = true
					parts = append(parts, schemas.Defs[name])
				}
			}
		}
		return text.String()
	}
}
