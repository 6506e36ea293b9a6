package pipeline

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"fieldgate"
	"fieldgate/contract/schema"
)

// answers are what a contract says of the answers of an operation, compiled.
type answers struct {
	declared []linkedAnswer
}

type linkedAnswer struct {
	status  string // "204", "2XX" or "default"
	media   []linkedMedia
	headers []linkedParameter
}

// linkAnswers compiles the answers where something needs them: they are checked, or written as CBOR with keys of the contract's.
func (o *Operation) linkAnswers(schemas *schemas) error {
	if !o.checksAnswers() && !o.takesCBOR() && (!schemas.numbered || o.CoAP == nil && o.HTTP == nil) {
		return nil
	}
	o.answers = &answers{}
	for i := range o.Responses {
		response := &o.Responses[i]
		linked := linkedAnswer{status: response.Status}
		var err error
		if linked.media, err = linkMedia(response.Media, schemas); err != nil {
			return err
		}
		if linked.headers, err = linkHeaders(response.Headers, schemas); err != nil {
			return err
		}
		o.answers.declared = append(o.answers.declared, linked)
	}
	return nil
}

// checksAnswers says whether the upstream's answers are held against the contract, for which they are read whole.
func (o *Operation) checksAnswers() bool {
	return o.Policies != nil && o.Policies.Answers != fieldgate.AnswersUnchecked && o.Upstream != "" && !o.PassThrough
}

// NeedsWholeAnswer says whether the answer has to be read whole before it goes to the caller, because it is checked or rewritten.
func (x *Exchange) NeedsWholeAnswer() bool { return x.toCBOR || x.Operation.readsAnswers() }

// reportsAnswers says whether the upstream's answers are held against the contract, but go to the caller whatever comes of it.
func (o *Operation) reportsAnswers() bool {
	return o.checksAnswers() && o.Policies.Answers == fieldgate.AnswersReported
}

// Encodes says whether the caller may choose a content coding. Answers that are checked must not be compressed.
func (o *Operation) Encodes() bool { return !o.checksAnswers() }

// of finds what the contract says of a status: exactly, by its class, or by default (OpenAPI 3.1 §4.8.16.2); nil: nothing.
func (a *answers) of(status int) *linkedAnswer {
	if a == nil {
		return nil
	}
	exact := strconv.Itoa(status)
	var found *linkedAnswer
	for i := range a.declared {
		one := &a.declared[i]
		switch {
		case one.status == exact:
			return one
		case one.status[1:] == "XX" && one.status[0] == exact[0]:
			found = one
		case one.status == "default" && found == nil:
			found = one
		}
	}
	return found
}

// AnswerSchema is the schema of the answer's content; nil: the contract has none, or nothing needs it.
func (x *Exchange) AnswerSchema() *schema.Schema {
	if p := x.Operation.policies; p != nil && p.response != nil && p.response.body != nil {
		return nil // the contract describes what the service says
	}
	answer := x.Operation.answers.of(x.Answer.Status)
	if answer == nil || x.Answer.ContentType == "" {
		return nil
	}
	var lower [128]byte
	given := mediaType(lower[:0], []byte(x.Answer.ContentType))
	if media := mediaOf(answer.media, given, encodingOfBytes(given)); media != nil {
		return media.schema
	}
	return nil
}

// checkAnswer holds the upstream's answer against the contract. Of an answer that breaks it the Record says what and where; the caller
// hears of it, where the contract enforces its answers, no more than that it did.
func (p *Pipeline) checkAnswer(x *Exchange) *fieldgate.Problem {
	broken := x.brokenAnswer()
	if broken == "" {
		return nil
	}
	return x.breaks(broken)
}

// breaks notes what of an answer breaks the contract, and is the problem where that is not let through.
func (x *Exchange) breaks(what string) *fieldgate.Problem {
	x.Findings |= fieldgate.FindingInvalidResponse
	x.Detail = "answer " + strconv.Itoa(x.Answer.Status) + ": " + what
	if x.Operation.Policies.Answers != fieldgate.AnswersEnforced {
		return nil
	}
	x.Answer = Answer{}
	return x.by("answer", errAnswer)
}

var errAnswer = fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, "The answer breaks the contract, and is not passed on.")

// brokenAnswer says what of the answer breaks the contract; empty: nothing.
func (x *Exchange) brokenAnswer() string {
	a := &x.Answer
	answer := x.Operation.answers.of(a.Status)
	if answer == nil {
		if a.Status == 304 { // RFC 9110 §15.4.5: it stands for the answer that the caller has
			return ""
		}
		return "the contract has no such status"
	}
	for i := range answer.headers {
		header := &answer.headers[i]
		value, found := a.field(header)
		switch {
		case found:
			if err := header.checkField([]byte(value)); err != nil {
				return "field " + header.Name + ": " + violationText(err)
			}
		case header.Required:
			return "the field " + header.Name + " is missing"
		}
	}
	if len(answer.media) == 0 || x.Method == fieldgate.MethodHead || a.Status == 204 || a.Status == 304 {
		return ""
	}
	return x.brokenContent(answer)
}

func (x *Exchange) brokenContent(answer *linkedAnswer) string {
	a := &x.Answer
	if coding := a.fieldNamed("content-encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return "the content is encoded, so that it cannot be checked"
	}
	if len(a.Body) == 0 {
		return "the content is missing"
	}
	var lower [128]byte
	given := mediaType(lower[:0], []byte(a.ContentType))
	if len(given) == 0 {
		return "the content type is missing"
	}
	written := encodingOfBytes(given)
	media := mediaOf(answer.media, given, written)
	if media == nil {
		return "the contract has no such content type"
	}
	if media.schema == nil {
		return ""
	}
	if err := media.check(written, []byte(a.ContentType), a.Body); err != nil {
		return violationText(err)
	}
	return ""
}

// field is the value of a declared field of the answer; several lines are one list (RFC 9110 §5.3).
func (a *Answer) field(header *linkedParameter) (value string, found bool) {
	switch header.field {
	case "location":
		return a.Location, a.Location != ""
	case "content-type":
		return a.ContentType, a.ContentType != ""
	}
	for i := range a.Fields {
		if !equalFold([]byte(a.Fields[i].Name), header.field) {
			continue
		}
		if found {
			value += ", " + a.Fields[i].Value
		} else {
			value, found = a.Fields[i].Value, true
		}
	}
	return value, found
}

func (a *Answer) fieldNamed(lower string) string {
	for i := range a.Fields {
		if equalFold([]byte(a.Fields[i].Name), lower) {
			return a.Fields[i].Value
		}
	}
	return ""
}

// violationText is where and what, for the Record: pointers only, since content may be anybody's.
func violationText(err error) string {
	var violation *schema.Violation
	if !errors.As(err, &violation) {
		return messageOf(err)
	}
	if where := strings.TrimSpace(violation.Instance + " " + violation.Clause); violation.Clause != "" {
		return where
	}
	return strings.TrimSpace(violation.Instance + " " + violation.Kind.String())
}

// messageOf is what an error says to people.
func messageOf(err error) string {
	var violation *schema.Violation
	if errors.As(err, &violation) {
		return violation.Message
	}
	var problem *fieldgate.Problem
	if errors.As(err, &problem) {
		return problem.Detail
	}
	return err.Error()
}

// transcodeAnswer writes an answer in JSON as CBOR for a caller that takes nothing else. What stands for the JSON, byte by byte, is
// left out: another representation has another entity tag (RFC 9110 §8.8.3.3) and other digests (RFC 9530).
func (x *Exchange) transcodeAnswer() *fieldgate.Problem {
	a := &x.Answer
	var lower [128]byte
	if !x.toCBOR || len(a.Body) == 0 || encodingOfBytes(mediaType(lower[:0], []byte(a.ContentType))) != encodingJSON || a.fieldNamed("content-encoding") != "" {
		return nil
	}
	encoded, err := schema.CBORFromJSON(nil, a.Body, x.AnswerSchema())
	if err != nil {
		return &fieldgate.Problem{Code: fieldgate.ProblemUpstreamInvalid, Cause: err}
	}
	a.Body, a.ContentType, a.ETag = encoded, cborType, ""
	kept := make([]AnswerField, 0, len(a.Fields)) // the Fields may be a mock's, which are everybody's
	for _, f := range a.Fields {
		switch strings.ToLower(f.Name) {
		case "etag", "content-md5", "digest", "content-digest", "repr-digest":
		default:
			kept = append(kept, f)
		}
	}
	a.Fields = kept
	x.byAccept = true
	return nil
}

// usesNumbers says whether a contract's schemas give members numbers in CBOR.
func usesNumbers(contract *fieldgate.Contract) bool {
	return bytes.Contains(contract.Schemas, []byte(`"x-cbor-key"`))
}
