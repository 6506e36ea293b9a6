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

// changedRules says what becomes of an operation's policies and conditions, by the words of contracts.
func changedRules(before, after *fieldgate.Operation) (sentences []string) {
	old, now := comparedRules(before, whole), comparedRules(after, whole)
	was, is := comparedRules(before, brief), comparedRules(after, brief)
	words := slices.Clone(is.words)
	for _, word := range was.words {
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	for _, word := range words {
		switch {
		case old.texts[word] == now.texts[word]:
		case is.texts[word] == "":
			sentences = append(sentences, fmt.Sprintf("%s is no more (was: %s)", word, was.texts[word]))
		case was.texts[word] == "":
			sentences = append(sentences, fmt.Sprintf("%s is new: %s", word, is.texts[word]))
		case was.texts[word] == is.texts[word]: // the difference is in what is not shown
			sentences = append(sentences, fmt.Sprintf("%s is changed: %s", word, is.texts[word]))
		default:
			sentences = append(sentences, fmt.Sprintf("%s: %s (was: %s)", word, is.texts[word], was.texts[word]))
		}
	}
	return sentences
}

// compared are the rules of an operation by the words of contracts, in their order.
type compared struct {
	words []string
	texts map[string]string
}

func comparedRules(o *fieldgate.Operation, shown extent) compared {
	c := compared{texts: make(map[string]string)}
	rules := rulesOf(o, shown)
	if o.Upstream != "" {
		rules = append(rules, rule{"upstream", "Calls go to " + o.Upstream + "."})
	}
	for _, r := range rules {
		phrase := strings.TrimSuffix(strings.ToLower(r.sentence[:1])+r.sentence[1:], ".") // each begins with an ASCII character
		if text, more := c.texts[r.word]; more {
			phrase = text + "; " + phrase
		} else {
			c.words = append(c.words, r.word)
		}
		c.texts[r.word] = phrase
	}
	return c
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
