package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"fieldgate/api"
)

// answers checks real answers against the contract.
type answers struct {
	*node
	t          *testing.T
	document   any
	compiler   *jsonschema.Compiler
	operations map[string]operation
	names      *strings.Replacer // of parameters in paths
	tried      map[string]bool
}

func newAnswers(t *testing.T, n *node) *answers {
	t.Helper()
	var decoded any
	if err := yaml.Unmarshal(api.Document, &decoded); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	a := &answers{node: n, t: t, document: document, compiler: jsonschema.NewCompiler(), operations: contractOperations(t), tried: make(map[string]bool)}
	if err := a.compiler.AddResource("urn:contract", document); err != nil {
		t.Fatal(err)
	}
	return a
}

// find follows a JSON Pointer (RFC 6901), and what stands there if that is a reference.
func (a *answers) find(pointer string) (value any, at string) {
	value = a.document
	for _, token := range strings.Split(pointer, "/")[1:] {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, pointer
		}
		value = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
	}
	if object, ok := value.(map[string]any); ok {
		if reference, ok := object["$ref"].(string); ok {
			return a.find(strings.TrimPrefix(reference, "#"))
		}
	}
	return value, pointer
}

func (a *answers) send(id, token, mediaType, body string, header ...string) {
	a.t.Helper()
	o := a.operations[id]
	request, err := http.NewRequestWithContext(a.t.Context(), o.method, "http://"+a.control.Address()+a.names.Replace(o.path), strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", mediaType)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	a.tried[id] = true
	if err := a.check(o, response, content); err != nil || response.StatusCode == 500 {
		a.t.Errorf("%s: %d %v\n%.300s", id, response.StatusCode, err, content)
	}
}

// streams says whether the contract promises events.
func (a *answers) streams(o operation) bool {
	events, _ := a.find("/paths/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(o.path) + "/" + strings.ToLower(o.method) + "/responses/200/content/text~1event-stream")
	return events != nil
}

func (a *answers) check(o operation, response *http.Response, content []byte) error {
	escaped := strings.NewReplacer("~", "~0", "/", "~1")
	responses := "/paths/" + escaped.Replace(o.path) + "/" + strings.ToLower(o.method) + "/responses/"
	declared, at := a.find(responses + strconv.Itoa(response.StatusCode))
	if declared == nil {
		declared, at = a.find(responses + "default")
	}
	if declared == nil {
		return fmt.Errorf("the contract does not name the status")
	}
	mediaType, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	if len(content) == 0 {
		if contents, _ := a.find(at + "/content"); contents != nil {
			return fmt.Errorf("the contract names contents")
		}
		return nil
	}
	if contents, _ := a.find(at + "/content/" + escaped.Replace(mediaType)); contents == nil {
		return fmt.Errorf("the contract does not name the type %q", mediaType)
	}
	if !strings.HasSuffix(mediaType, "json") || strings.HasSuffix(mediaType, "ndjson") {
		return nil
	}
	schema, err := a.compiler.Compile("urn:contract#" + at + "/content/" + escaped.Replace(mediaType) + "/schema")
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// What the contract says of answers is true: of good ones, of refusals, and of those to requests that make no sense.
func TestAnswersAreWhatTheContractSays(t *testing.T) {
	n := start(t, socketDirectory(t))
	n.claim(t)
	a := newAnswers(t, n)
	const plain, contract = "application/json", "application/yaml"
	named := func(name string) {
		a.names = strings.NewReplacer("{device}", name, "{app}", name, "{operator}", name, "{api}", "thermo", "{version}", "2.4.0",
			"{session}", name, "{token}", name, "{capture}", name, "{instance}", name)
	}
	named("x1")
	for _, step := range []struct{ id, body string }{
		{"publishApi", thermo}, {"publishApis", `{"document":` + strconv.Quote(thermo) + "}"}, {"addDevice", `{"id":"x1","model":"T2"}`}, {"addDevice", `{"id":"x1"}`}, {"updateDevice", `{"model":"T3"}`},
		{"issueDeviceToken", `{}`}, {"quarantineDevice", `{"reason":"r"}`}, {"releaseDevice", `{"reason":"r"}`}, {"getDevice", ""}, {"importDevices", `{"id":"x2"}`},
		{"addApp", `{"id":"x1","name":"n","scopes":["s"]}`}, {"updateApp", `{"name":"m"}`}, {"issueAppKey", `{}`}, {"getApp", ""},
		{"addOperator", `{"name":"x1","role":"auditor"}`}, {"updateOperator", `{"role":"developer"}`}, {"inviteOperator", ""}, {"getOperator", ""},
		{"addToken", `{"name":"n","scopes":["read"]}`}, {"startCapture", `{}`}, {"deprecateVersion", `{"reason":"r"}`}, {"restoreVersion", `{"reason":"r"}`},
	} {
		mediaType := plain
		if step.id == "publishApi" {
			mediaType = contract
		}
		a.send(step.id, n.token, mediaType, step.body)
	}
	for _, id := range []string{"updateDevice", "updateApp", "updateOperator"} {
		a.send(id, n.token, plain, `{"role":"owner","name":"z","model":"z"}`, "If-Match", `"999"`)
	}
	for _, name := range []string{"x1", "nobody"} {
		named(name)
		for id, o := range a.operations {
			if a.streams(o) {
				continue // it does not end
			}
			if !o.public {
				a.send(id, "wrong", plain, "")
			}
			if o.method == "GET" {
				a.send(id, n.token, plain, "")
			} else if name == "nobody" {
				a.send(id, n.token, plain, "{", "Idempotency-Key", "x")
				a.send(id, n.token, plain, "{}")
			}
		}
	}
	named("x1")
	for _, id := range []string{"revokeDevice", "revokeApp", "retireVersion", "removeOperator", "listAudit", "listDevices", "listApis"} {
		a.send(id, n.token, plain, `{"reason":"r"}`)
	}
	for id, o := range a.operations {
		if !a.tried[id] && !a.streams(o) {
			t.Errorf("%s was not tried", id)
		}
	}
}
