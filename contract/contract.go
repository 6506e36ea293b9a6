// Package contract compiles API contracts: it reads OpenAPI 3.0 and 3.1, AsyncAPI 3 and pass-through documents, with the
// x-fieldgate words in them, into the one form that gateways serve, and says where contracts conflict.
//
// It owns the reading of documents and the messages about them: each names file, line, column, place and remedy. It
// follows no reference out of a document, bounds what a document can cost, and keeps nothing of it but the compiled form.
package contract

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"

	"fieldgate"
)

// Form numbers what Compile makes of a document. It is raised with every change after which the same document compiles to something
// else, so that contracts that were compiled before are compiled anew.
const Form = 3

// turn lets one document be read at a time: the largest ones take hundreds of megabytes while they are, and libopenapi's caches
// belong to the process and are cleared with each document.
var turn sync.Mutex

// Reading is what a document says.
type Reading struct {
	Contract    *fieldgate.Contract // complete, unless there was an error
	Diagnostics []Diagnostic        // all that was found, in the order of the document

	// Replaces is the version that this one takes the place of, x-fieldgate.lifecycle.replaces, and Sunset the date (RFC 3339) on
	// which that ends, from sunset-of-replaced. Both are empty where the document says nothing.
	Replaces, Sunset string

	Owner, Description string // the contact that info names, by name or else address, and what it says to people, in Markdown
}

// Compile is Read for those who need the contract alone.
func Compile(name string, document []byte) (*fieldgate.Contract, []Diagnostic, error) {
	reading, err := Read(name, document)
	return reading.Contract, reading.Diagnostics, err
}

// Read reads one document, YAML or JSON, and compiles it. name is what messages call it. The error, an *InvalidError, holds the
// diagnostics that keep the document from being a contract.
func Read(name string, document []byte) (reading Reading, err error) {
	turn.Lock()
	defer turn.Unlock()
	digest := sha256.Sum256(document)
	document = joinSurrogates(document)
	c := &compiler{
		file:     name,
		contract: &fieldgate.Contract{Digest: hex.EncodeToString(digest[:]), Operations: []fieldgate.Operation{}},
		ids:      make(map[string]*node),
		routes:   make(map[string]*node),
	}
	if c.root = c.tree(document); c.root != nil {
		c.compile(document)
	}
	reading.Diagnostics = c.sorted()
	if !c.failed {
		reading.Contract = c.contract
		lifecycle := c.root.find("x-fieldgate", "lifecycle")
		reading.Replaces, reading.Sunset = lifecycle.get("replaces").string(), lifecycle.get("sunset-of-replaced").string()
		info := c.root.get("info")
		contact := info.get("contact")
		reading.Description, reading.Owner = info.get("description").string(), strings.TrimSpace(contact.get("name").string())
		if reading.Owner == "" {
			reading.Owner = strings.TrimSpace(contact.get("email").string())
		}
		return reading, nil
	}
	invalid := &InvalidError{}
	for _, d := range reading.Diagnostics {
		if d.Severity == SeverityError {
			invalid.Errors = append(invalid.Errors, d)
		}
	}
	return reading, invalid
}

// compiler is the state of one compilation.
type compiler struct {
	file        string
	diagnostics []Diagnostic
	failed      bool
	exceeded    bool // a bound, so that there is nothing to be gained from reading on
	written     int  // bytes of the compiled form so far

	root         *node
	positions    map[position]*node
	namedSchemas *node // components.schemas

	contract  *fieldgate.Contract
	upstreams map[string]string // by the document's name, the environment's
	host      string
	base      string // path that precedes every HTTP path
	principal *node  // name of the parameter that is bound by default
	dialect   dialect
	schemas   bundle
	examples  []pendingExample
	privacy   []pendingPrivacy
	private   []*node // policies of the operation that is being read

	ids    map[string]*node // operations by id
	routes map[string]*node // operations by route
}

func (c *compiler) compile(document []byte) {
	switch {
	case c.root.get("openapi") != nil:
		c.contract.Kind = fieldgate.KindOpenAPI
		c.compileOpenAPI(document)
	case c.root.get("asyncapi") != nil:
		c.contract.Kind = fieldgate.KindAsyncAPI
		c.compileAsyncAPI()
	case c.root.get("fieldgate") != nil:
		c.contract.Kind = fieldgate.KindPassThrough
		c.compilePassThrough()
	case c.root.get("swagger") != nil:
		c.fail(c.root.get("swagger"), "convert it to OpenAPI 3", "Swagger 2 is not read")
	default:
		c.fail(c.root, "start it with openapi: 3.1.0, asyncapi: 3.0.0 or fieldgate: pass-through", "the document is of no kind that is known")
	}
	if c.contract.Kind != fieldgate.KindPassThrough && !c.exceeded {
		compiled := c.compileSchemas()
		c.checkExamples(compiled)
		c.checkMembers(compiled)
	}
	if !c.failed {
		if _, _, err := fieldgate.EncodeContract(c.contract); err != nil {
			c.fail(c.root, "split the API into several contracts", "the contract is too large: %v", err)
		}
	}
}

// write counts bytes of the compiled form. A component that operations share is written out for each of them, so that a small
// document can become a contract of any size.
func (c *compiler) write(at *node, bytes int) {
	if c.written += bytes; c.written > fieldgate.MaxEncodedContract {
		c.excess(at, "shorten the examples and descriptions that operations share, or split the API into several contracts",
			"the contract has more than %d MiB once what operations share is written out for each", fieldgate.MaxEncodedContract>>20)
	}
}

// size is how many bytes the texts of an operation take, its examples and schemas aside, and at least what its structure does.
func size(op *fieldgate.Operation) int {
	bytes := len(op.ID) + len(op.Summary)
	parameters := func(list []fieldgate.Parameter) {
		for _, p := range list {
			bytes += len(`{"name":"","in":"header","schema":""},`) + len(p.Name) + len(p.Schema)
		}
	}
	media := func(types []fieldgate.MediaType) {
		for _, m := range types {
			for _, e := range m.Encoding {
				bytes += len(`{"property":""},`) + len(e.Property) + len(strings.Join(e.Types, `","`))
				parameters(e.Headers)
			}
			bytes += len(`{"type":"","schema":""},`) + len(m.Type) + len(m.Schema)
			for _, e := range m.Examples {
				bytes += len(`{"name":"","value":},`) + len(e.Name)
			}
		}
	}
	parameters(op.Parameters)
	for _, payload := range []*fieldgate.Payload{op.Request, op.Message} {
		if payload != nil {
			media(payload.Media)
		}
	}
	for _, r := range op.Responses {
		bytes += len(`{"status":"200","description":""},`) + len(r.Description)
		media(r.Media)
		parameters(r.Headers)
	}
	if op.HTTP != nil {
		bytes += len(op.HTTP.Path)
	}
	return bytes
}

// addOperation takes a finished operation into the contract, unless it collides with one that is there. at is where it
// stands and named where its id stands.
func (c *compiler) addOperation(op fieldgate.Operation, at, named *node) {
	if len(c.contract.Operations) == fieldgate.MaxOperations {
		c.fail(at, "split the API into several contracts", "a contract has at most %d operations", fieldgate.MaxOperations)
		return
	}
	if !fieldgate.ValidIdentifier(op.ID) {
		c.fail(named, "use letters, digits and . _ - :", "%q cannot be the id of an operation", excerpt(op.ID))
	}
	if earlier := c.ids[op.ID]; earlier != nil {
		c.fail(named, "give each operation an id of its own", "two operations are called %q; the first is in line %d", excerpt(op.ID), earlier.line)
	}
	c.ids[op.ID] = named
	for _, r := range routesOf(&op) {
		if earlier := c.routes[r.key+" "+r.host]; earlier != nil {
			c.fail(at, "give one of them another route", "%s claims %s, which the operation in line %d has already", op.ID, r.text, earlier.line)
			continue
		}
		c.routes[r.key+" "+r.host] = at
	}
	if len(op.Parameters) > fieldgate.MaxParameters {
		c.fail(at, "put some into the body", "%s has %d parameters, more than %d", op.ID, len(op.Parameters), fieldgate.MaxParameters)
	}
	c.write(at, size(&op))
	c.contract.Operations = append(c.contract.Operations, op)
}
