package pipeline

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"fieldgate"
	"fieldgate/contract"
)

// maxExpressionCost bounds what one expression may compute, in CEL's units of about one operation each.
const maxExpressionCost = 200_000

// maxTransformed bounds the content that an expression makes, in bytes.
const maxTransformed = 4 << 20

var errNoJSON = fieldgate.NewProblem(fieldgate.ProblemInvalidPayload, "The content is no JSON.")

var errTransform = fieldgate.NewProblem(fieldgate.ProblemInternal, "The API's transformation failed on this message; its owner sees why in the record.")

// transform is a transformation of messages, linked.
type transform struct {
	set    []transformField
	remove map[string]bool // by folded name; those of set are in it too
	body   cel.Program     // nil: the content stays
}

type transformField struct {
	name  string
	value cel.Program
}

func linkTransform(t *fieldgate.Transform) (*transform, error) {
	if t == nil {
		return nil, nil
	}
	linked := &transform{remove: make(map[string]bool)}
	for _, name := range t.Remove {
		linked.remove[folded(name)] = true
	}
	for _, field := range t.Set {
		program, err := linkExpression(field.Value)
		if err != nil {
			return nil, err
		}
		linked.set = append(linked.set, transformField{field.Name, program})
		linked.remove[folded(field.Name)] = true
	}
	var err error
	if t.Body != "" {
		linked.body, err = linkExpression(t.Body)
	}
	return linked, err
}

// folded is a field's name in lower case, with "-" for "_": many programs take the two for the same.
func folded[T string | []byte](name T) string {
	return strings.ReplaceAll(strings.ToLower(string(name)), "_", "-")
}

// changes says whether the transformation removes or sets a field.
func (t *transform) changes(name []byte) bool {
	return t != nil && len(t.remove) > 0 && t.remove[folded(name)]
}

func linkExpression(text string) (cel.Program, error) {
	env := contract.Expressions()
	compiled, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	return env.Program(compiled, cel.CostLimit(maxExpressionCost), cel.EvalOptions(cel.OptOptimize))
}

// message is what expressions see; each part is made when an expression asks for it.
type message struct {
	x      *Exchange
	status int
	body   []byte
	fields func(each func(name, value string))

	values map[string]any
	noJSON bool // body was asked for, and is none
}

// ResolveName implements cel.Activation.
func (m *message) ResolveName(name string) (any, bool) {
	if value, made := m.values[name]; made {
		return value, true
	}
	value, found := m.value(name)
	if found {
		if m.values == nil {
			m.values = make(map[string]any)
		}
		m.values[name] = value
	}
	return value, found
}

// Parent implements cel.Activation.
func (m *message) Parent() cel.Activation { return nil }

func (m *message) value(name string) (any, bool) {
	x := m.x
	switch name {
	case "body":
		value, err := jsonValue(m.body)
		if m.noJSON = err != nil; m.noJSON {
			return types.NewErr("the content is no JSON"), true
		}
		return value, true
	case "headers":
		headers := make(map[string]string)
		m.fields(func(name, value string) {
			if name = strings.ToLower(name); headers[name] == "" {
				headers[name] = value
			}
		})
		return headers, true
	case "query":
		query := make(map[string]string)
		for pair := range bytes.SplitSeq(x.Query, []byte{'&'}) {
			key, value, _ := bytes.Cut(pair, []byte{'='})
			key, keyOK := percentDecoded(key, true)
			value, valueOK := percentDecoded(value, true)
			if _, given := query[string(key)]; keyOK && valueOK && !given && len(key) > 0 {
				query[string(key)] = string(value)
			}
		}
		return query, true
	case "path":
		path := make(map[string]string)
		for i := range x.Operation.Parameters {
			if x.Operation.Parameters[i].In == fieldgate.InPath {
				path[x.Operation.Parameters[i].Name] = string(x.values[i])
			}
		}
		return path, true
	case "principal":
		p := &x.Principal
		return map[string]string{"id": p.ID, "kind": string(p.Kind), "model": p.Model, "firmware": p.Firmware}, true
	case "status":
		return m.status, true
	}
	return nil, false
}

// transformRequest makes the request's fields and content what the service is to get.
func (x *Exchange) transformRequest(body []byte, contentType string) (lines, newBody []byte, newType string, problem *fieldgate.Problem) {
	t := x.Operation.policies.request
	m := &message{x: x, body: body, fields: func(each func(name, value string)) {
		if x.HTTP != nil {
			x.HTTP.Each(func(name, value []byte) { each(string(name), string(value)) })
		}
	}}
	for i := range t.set {
		value, err := t.set[i].text(m)
		if err != nil {
			return nil, nil, "", x.transformFailed("request set "+t.set[i].name, err)
		}
		switch {
		case value == "":
		case t.set[i].name == "content-type":
			contentType = value
		default:
			lines = append(append(append(append(lines, t.set[i].name...), ": "...), value...), "\r\n"...)
		}
	}
	if t.body == nil {
		return lines, body, contentType, nil
	}
	made, err := t.content(m)
	switch {
	case m.noJSON: // which is the caller's fault
		return nil, nil, "", x.by("transformation", errNoJSON)
	case err != nil:
		return nil, nil, "", x.transformFailed("request body", err)
	case !t.remove["content-type"]:
		contentType = "application/json"
	}
	return lines, made, contentType, nil
}

// transformAnswer makes the answer what the caller is to get.
func (x *Exchange) transformAnswer() *fieldgate.Problem {
	t, answer := x.Operation.policies.response, &x.Answer
	m := &message{x: x, body: answer.Body, status: answer.Status, fields: func(each func(name, value string)) {
		for _, f := range answer.Fields {
			each(f.Name, f.Value)
		}
		each("content-type", answer.ContentType)
	}}
	var set []AnswerField
	for i := range t.set {
		value, err := t.set[i].text(m)
		if err != nil {
			return x.transformFailed("response set "+t.set[i].name, err)
		}
		if value != "" {
			set = append(set, AnswerField{Name: t.set[i].name, Value: value})
		}
	}
	made := answer.Body
	if t.body != nil && mayHaveContent(answer.Status) {
		var err error
		if made, err = t.content(m); err != nil {
			return x.transformFailed("response body", err)
		}
		answer.ContentType = "application/json"
	}
	kept := answer.Fields[:0:0]
	for _, f := range answer.Fields {
		// Validators are those of the content as the service sent it (RFC 9110 section 8.8).
		if !t.changes([]byte(f.Name)) && !(t.body != nil && slices.Contains(aboutContent, strings.ToLower(f.Name))) {
			kept = append(kept, f)
		}
	}
	if t.body != nil {
		answer.ETag = ""
	}
	if t.changes([]byte("location")) {
		answer.Location = ""
	}
	if t.changes([]byte("content-type")) {
		answer.ContentType = ""
	}
	for _, f := range set { // these two are no mere fields to other protocols
		switch f.Name {
		case "location":
			answer.Location = f.Value
		case "content-type":
			answer.ContentType = f.Value
		default:
			kept = append(kept, f)
		}
	}
	answer.Fields, answer.Body = kept, made
	return nil
}

// mayHaveContent: RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
func mayHaveContent(status int) bool { return status != 204 && status != 205 && status != 304 }

// transformFailed is a fault of the contract's expression, which its owner reads in the Record. What errors quote is content, which may be
// anybody's.
func (x *Exchange) transformFailed(what string, err error) *fieldgate.Problem {
	reason, _, _ := strings.Cut(err.Error(), `"`)
	x.Detail = what + ": " + strings.TrimRight(reason, " :")
	problem := *errTransform
	return x.by("transformation", &problem)
}

// evaluations bounds how many expressions are computed at once, and so what content that was taken apart takes in memory: many times as
// much as its bytes. They never wait for anything but a processor.
var evaluations = make(chan struct{}, 2*runtime.GOMAXPROCS(0))

func evaluate(expression cel.Program, m *message) (ref.Val, error) {
	evaluations <- struct{}{}
	defer func() { <-evaluations }()
	value, _, err := expression.Eval(m)
	return value, err
}

// text is the value of a header field: what is a text, number or boolean. Null leaves the field out.
func (f *transformField) text(m *message) (string, error) {
	value, err := evaluate(f.value, m)
	if err != nil {
		return "", err
	}
	text := ""
	switch v := value.(type) {
	case types.String:
		text = string(v)
	case types.Int, types.Uint, types.Double, types.Bool:
		text = fmt.Sprint(v.Value())
	case types.Null:
	default:
		return "", fmt.Errorf("a header field cannot be of type %s", value.Type().TypeName())
	}
	if len(text) > fieldgate.MaxExpression {
		return "", errors.New("the field's value is too long")
	}
	for i := range len(text) { // RFC 9110 section 5.5
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", errors.New("the field's value has a control character")
		}
	}
	return text, nil
}

// content is the new content: JSON, empty for null.
func (t *transform) content(m *message) ([]byte, error) {
	value, err := evaluate(t.body, m)
	if err != nil {
		return nil, err
	}
	if value == types.NullValue {
		return nil, nil
	}
	return appendValue(nil, value, 0)
}

// jsonValue is JSON as CEL sees it: whole numbers are integers where they fit. No content is null.
func jsonValue(text []byte) (any, error) {
	if len(text) == 0 {
		return types.NullValue, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("there is more than one value")
	}
	return typed(value), nil
}

func typed(value any) any {
	switch v := value.(type) {
	case json.Number:
		if whole, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return whole
		}
		if whole, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return whole
		}
		number, err := v.Float64()
		if err != nil {
			return types.NewErr("the number is too large")
		}
		return number
	case map[string]any:
		for name, member := range v {
			v[name] = typed(member)
		}
	case []any:
		for i, item := range v {
			v[i] = typed(item)
		}
	case nil:
		return types.NullValue
	}
	return value
}

const maxValueDepth = 100

// appendValue writes a CEL value as JSON.
func appendValue(dst []byte, value ref.Val, depth int) ([]byte, error) {
	if depth > maxValueDepth || len(dst) > maxTransformed {
		return nil, errors.New("the new content is too large or too deep")
	}
	var err error
	switch v := value.(type) {
	case types.Null:
		return append(dst, "null"...), nil
	case types.Bool:
		return strconv.AppendBool(dst, bool(v)), nil
	case types.Int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case types.Uint:
		return strconv.AppendUint(dst, uint64(v), 10), nil
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, errors.New("JSON has no such number")
		}
		return strconv.AppendFloat(dst, float64(v), 'g', -1, 64), nil
	case types.String:
		return fieldgate.AppendJSONString(dst, string(v)), nil
	case types.Bytes:
		return fieldgate.AppendJSONString(dst, base64.StdEncoding.EncodeToString(v)), nil
	case types.Timestamp:
		return fieldgate.AppendJSONString(dst, v.UTC().Format(time.RFC3339Nano)), nil
	case *types.Optional:
		if !v.HasValue() {
			return append(dst, "null"...), nil
		}
		return appendValue(dst, v.GetValue(), depth+1)
	case traits.Mapper:
		dst = append(dst, '{')
		first := true
		for names := v.Iterator(); names.HasNext() == types.True; {
			name := names.Next()
			text, ok := name.(types.String)
			if !ok {
				return nil, errors.New("names of members must be texts")
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(fieldgate.AppendJSONString(dst, string(text)), ':')
			if dst, err = appendValue(dst, v.Get(name), depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case traits.Lister:
		dst = append(dst, '[')
		for items, first := v.Iterator(), true; items.HasNext() == types.True; first = false {
			if !first {
				dst = append(dst, ',')
			}
			if dst, err = appendValue(dst, items.Next(), depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	}
	return nil, fmt.Errorf("content cannot hold a value of type %s", value.Type().TypeName())
}
