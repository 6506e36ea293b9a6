package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

var (
	errorsOf       = regexp.MustCompile(`^\w+ errors:\s+`)
	unknownSetting = regexp.MustCompile(`field (\S+) not found in type [^\n]+`)
	unknownLevel   = regexp.MustCompile(`slog: level string ("[^"\n]*"): [^\n]+`)
	wrongKind      = regexp.MustCompile("cannot construct !!(\\w+)(?: `([^`\n]*)`)? into ([^\n]+)")
)

// wanted is what to write where a Go type is read.
var wanted = map[string]string{
	"time.Duration": "a time with its unit, such as 5s or 500ms",
	"int":           "a whole number",
	"uint16":        "a whole number, 0 to 65535",
	"float64":       "a number",
	"bool":          "true or false",
	"string":        "text, in quotes where it holds : or #",
	"[]string":      "a list, such as [a, b]",
}

// explainYAML puts the library's words into ours; lines stay.
func explainYAML(err error) string {
	text := errorsOf.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "")
	text = unknownSetting.ReplaceAllString(text, `there is no setting "$1" here`)
	text = unknownLevel.ReplaceAllString(text, `log.level: $1 is none: write debug, info, warn or error`)
	text = wrongKind.ReplaceAllStringFunc(text, func(found string) string {
		parts := wrongKind.FindStringSubmatch(found)
		what, want := strconv.Quote(parts[2]), wanted[strings.TrimPrefix(parts[3], "*")]
		switch parts[1] {
		case "seq":
			what = "a list"
		case "map":
			what = "a group of settings"
		}
		switch {
		case want != "":
		case strings.HasPrefix(parts[3], "[]"):
			want = "a list of groups of settings, such as [{...}, {...}]"
		default:
			want = "a group of settings, such as {setting: value}"
		}
		return fmt.Sprintf("%s does not fit here: write %s", what, want)
	})
	return strings.ReplaceAll(text, "\n  ", "; ")
}

// lineOf says in which line the setting stands that a sentence begins with, such as "upstreams.ingest: balance: ..."; empty: in none.
func lineOf(text []byte, sentence string) string {
	var document yaml.Node
	if yaml.Unmarshal(text, &document) != nil || len(document.Content) == 0 {
		return ""
	}
	line, node := 0, document.Content[0]
	for node != nil {
		var next *yaml.Node
		switch longest := -1; node.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				key := node.Content[i].Value
				if end := len(key); end > longest && len(sentence) > end && strings.HasPrefix(sentence, key) && strings.IndexByte(".: ", sentence[end]) >= 0 {
					longest, line, next = end, node.Content[i].Line, node.Content[i+1]
				}
			}
			if next != nil {
				sentence = strings.TrimLeft(sentence[longest:], ".: ")
			}
		case yaml.SequenceNode:
			for _, item := range node.Content {
				if quotes(item, sentence) {
					line = item.Line
					break
				}
			}
		}
		node = next
	}
	if line == 0 {
		return ""
	}
	return fmt.Sprintf("line %d: ", line)
}

// quotes says whether a sentence is about an item of a list.
func quotes(item *yaml.Node, sentence string) bool {
	if item.Kind == yaml.ScalarNode {
		return strings.Contains(sentence, strconv.Quote(item.Value))
	}
	for _, part := range item.Content {
		if quotes(part, sentence) {
			return true
		}
	}
	return false
}
