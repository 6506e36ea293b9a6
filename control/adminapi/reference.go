package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

const (
	// maxReferenceBytes is how large an answer grows by resolving references; further ones are left as they are.
	maxReferenceBytes = 4 << 20
	maxReferenceDepth = 64 // of references inside each other
)

// parsing is of one document at a time, because a large one takes much memory.
var parsing sync.Mutex

// parseDocument reads a document that has been compiled, so that its size and depth are bounded. A JSON document is YAML, too.
func parseDocument(document []byte) (*yaml.Node, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, err
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) == 0 {
		return nil, fmt.Errorf("an empty document")
	}
	return root.Content[0], nil
}

func (o *operations) GetReference(ctx context.Context, request GetReferenceRequestObject) (GetReferenceResponseObject, error) {
	document, err := o.document(ctx, request.Api, request.Version)
	if err != nil {
		return nil, err
	}
	rendered, err := renderReference(document)
	if err != nil {
		return nil, fmt.Errorf("reference of %s %s: %w", request.Api, request.Version, err)
	}
	return reference(rendered), nil
}

// reference is a JSON document; its members keep their order, as people wrote them.
type reference []byte

func (r reference) VisitGetReferenceResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(r)))
	_, err := w.Write(r)
	return err
}

// renderReference is a document as JSON. A reference inside it is replaced by what it names, whose member x-ref then says which it
// was, unless it stands inside itself, or the answer has become too large.
func renderReference(document []byte) ([]byte, error) {
	parsing.Lock()
	defer parsing.Unlock()
	root, err := parseDocument(document)
	if err != nil {
		return nil, err
	}
	r := &renderer{root: root}
	r.write(root, nil, "")
	return r.out.Bytes(), nil
}

type renderer struct {
	root *yaml.Node
	out  bytes.Buffer
}

// write renders a node; inside are the references that it stands in, ref that by which it is reached.
func (r *renderer) write(n *yaml.Node, inside []string, ref string) {
	switch n.Kind {
	case yaml.AliasNode:
		r.write(n.Alias, inside, ref)
	case yaml.SequenceNode:
		r.out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				r.out.WriteByte(',')
			}
			r.write(item, inside, "")
		}
		r.out.WriteByte(']')
	case yaml.MappingNode:
		if name := referenceOf(n); name != "" && !slices.Contains(inside, name) && len(inside) < maxReferenceDepth && r.out.Len() < maxReferenceBytes {
			if target := find(r.root, name); target != nil {
				r.write(target, append(slices.Clip(inside), name), name)
				return
			}
		}
		r.out.WriteByte('{')
		if ref != "" {
			r.text("x-ref")
			r.out.WriteByte(':')
			r.text(ref)
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 || ref != "" {
				r.out.WriteByte(',')
			}
			r.text(n.Content[i].Value)
			r.out.WriteByte(':')
			r.write(n.Content[i+1], inside, "")
		}
		r.out.WriteByte('}')
	default:
		r.scalar(n)
	}
}

// scalar keeps numbers as they are written, where JSON can write them so.
func (r *renderer) scalar(n *yaml.Node) {
	switch tag := n.ShortTag(); {
	case tag == "!!null":
		r.out.WriteString("null")
	case tag == "!!bool":
		fmt.Fprint(&r.out, strings.EqualFold(n.Value, "true"))
	case (tag == "!!int" || tag == "!!float") && json.Valid([]byte(n.Value)):
		r.out.WriteString(n.Value)
	default:
		r.text(n.Value)
	}
}

func (r *renderer) text(text string) {
	encoded, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	r.out.Write(encoded)
}

// referenceOf is the JSON Pointer of a reference inside the document; empty where n is none.
func referenceOf(n *yaml.Node) string {
	if ref := member(n, "$ref"); ref != nil && ref.Kind == yaml.ScalarNode && strings.HasPrefix(ref.Value, "#/") {
		return ref.Value
	}
	return ""
}

func member(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// find follows a JSON Pointer in a fragment (RFC 6901 section 6).
func find(n *yaml.Node, fragment string) *yaml.Node {
	pointer, err := url.PathUnescape(strings.TrimPrefix(fragment, "#"))
	if err != nil {
		return nil
	}
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n.Kind == yaml.SequenceNode {
			at, err := strconv.Atoi(token)
			if err != nil || at < 0 || at >= len(n.Content) {
				return nil
			}
			n = n.Content[at]
		} else if n = member(n, token); n == nil {
			return nil
		}
	}
	return n
}

// clauseOf is the JSON Pointer of an operation in its document; empty where the document gives it no id.
func clauseOf(document []byte, operation string) (string, error) {
	parsing.Lock()
	defer parsing.Unlock()
	root, err := parseDocument(document)
	if err != nil {
		return "", err
	}
	if operations := member(root, "operations"); operations != nil && member(operations, operation) != nil {
		return "/operations/" + pointerToken(operation), nil
	}
	paths := member(root, "paths")
	if paths == nil || paths.Kind != yaml.MappingNode {
		return "", nil
	}
	for i := 0; i+1 < len(paths.Content); i += 2 {
		item := paths.Content[i+1]
		for _, method := range []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"} {
			if found := member(item, method); found != nil {
				if id := member(found, "operationId"); id != nil && id.Value == operation {
					return "/paths/" + pointerToken(paths.Content[i].Value) + "/" + method, nil
				}
			}
		}
	}
	return "", nil
}

func pointerToken(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "~", "~0"), "/", "~1")
}
