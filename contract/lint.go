package contract

// lint reports what a schema says against itself, which a validator would carry out without a word.
func (c *compiler) lint(n *node, d dialect) {
	for _, pair := range [][2]string{{"minimum", "maximum"}, {"minLength", "maxLength"}, {"minItems", "maxItems"}, {"minProperties", "maxProperties"}, {"minContains", "maxContains"}} {
		low, lowGiven := n.get(pair[0]).number()
		high, highGiven := n.get(pair[1]).number()
		if lowGiven && highGiven && low > high {
			c.fail(n.get(pair[0]), "swap or correct them", "%s %v is greater than %s %v, so nothing is valid", pair[0], low, pair[1], high)
		}
	}
	c.lintRequired(n)
	if schemaWord := n.get("$schema"); schemaWord != nil {
		if known, ok := dialects[schemaWord.string()]; !ok || (known != d && known != dialect2020) {
			c.fail(schemaWord, "use 2020-12 in OpenAPI 3.1, draft-07 in AsyncAPI 3", "the schema dialect %q is not read here", excerpt(schemaWord.string()))
		}
	}
}

var dialects = map[string]dialect{
	"https://json-schema.org/draft/2020-12/schema":       dialect2020,
	"https://spec.openapis.org/oas/3.1/dialect/base":     dialect2020,
	"http://json-schema.org/draft-07/schema#":            dialect07,
	"http://json-schema.org/draft-07/schema":             dialect07,
	"https://json-schema.org/draft-07/schema#":           dialect07,
	"https://spec.openapis.org/oas/3.1/schema-base.yaml": dialect2020,
}

// lintRequired reports required members that a closed object cannot have.
func (c *compiler) lintRequired(n *node) {
	closed := n.get("additionalProperties")
	if closed == nil || closed.kind != scalar || closed.isTrue() || n.get("patternProperties") != nil {
		return
	}
	properties := n.get("properties")
	for _, required := range n.get("required").all() {
		if required.isText() && properties.get(required.text) == nil {
			c.fail(required, c.didYouMean(required.text, properties.names()), "%q is required, but additionalProperties: false keeps it out; it is not among properties", excerpt(required.text))
		}
	}
}
