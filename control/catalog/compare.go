package catalog

import (
	"encoding/json"
	"regexp"
	"strings"

	"fieldgate"
)

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
