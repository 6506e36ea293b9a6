package adminapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/catalog"
	"fieldgate/control/refusal"
)

const (
	maxFileName = 1024

	// maxDocumentLine bounds a line with a document: JSON writes the characters of texts with one to three bytes for each of their own.
	maxDocumentLine = 3*fieldgate.MaxDocumentBytes + 8*maxFileName

	maxPublishing     = 2               // requests with many documents at once, which are held in memory
	publishAllTimeout = 5 * time.Minute // to read one, compile the documents and answer
)

func (o *operations) PublishApi(ctx context.Context, request PublishApiRequestObject) (PublishApiResponseObject, error) {
	document, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	file := request.Params.Name
	if file == "" {
		file = "document"
	}
	if len(file) > maxFileName {
		return nil, refusal.Invalid("The parameter name has at most %d bytes.", maxFileName)
	}
	plan, err := o.config.Catalog.Publish(ctx, file, document, request.Params.DryRun, versionOf(request.Params.IfMatch))
	if err != nil {
		if plan != nil { // which API it is only the document says
			return nil, o.explainAPIChange(ctx, err, plan.Contract.API)
		}
		return nil, err
	}
	answer := planAnswer(plan, file, upstreamNames(o.config.Rollout.List(), time.Now()))
	if plan.Applied {
		return PublishApi201JSONResponse(answer), nil
	}
	return PublishApi200JSONResponse(answer), nil
}

// planAnswer is the plan of the document that findings call file, with what it lacks of the upstreams that gateways have; nil: nobody
// knows which there are.
func planAnswer(plan *catalog.Plan, file string, upstreams map[string]bool) api.Plan {
	k := plan.Contract
	answer := api.Plan{Api: k.API, Version: k.Version, Title: k.Title, Kind: api.ContractKind(k.Kind), Digest: k.Digest,
		Change: api.PlanChange(plan.Change), Applied: plan.Applied, Supersedes: plan.Supersedes, Findings: findings(plan.Warnings),
		Snapshot: int64(plan.Snapshot), Operations: []api.OperationChange{}}
	for _, operation := range plan.Operations {
		answer.Operations = append(answer.Operations, api.OperationChange{Id: operation.ID, Change: api.OperationChangeChange(operation.Change), Rules: operation.Rules})
	}
	if k.State == fieldgate.LifecycleActive || k.State == fieldgate.LifecycleDeprecated {
		answer.Findings = append(answer.Findings, unknownUpstreamFindings(k, file, upstreams)...)
	}
	return answer
}

// unknownUpstreamFindings warn of operations that are going to answer 502. It is no error: the upstream may be added afterwards.
func unknownUpstreamFindings(k *fieldgate.Contract, file string, upstreams map[string]bool) (list []api.ContractFinding) {
	unknown := unknownUpstreams(catalog.Upstreams(k), upstreams)
	for i, name := range unknown {
		finding := api.ContractFinding{Severity: api.ContractFindingSeverityWarning, File: file, Message: fmt.Sprintf("no gateway has the upstream %q", name),
			Remedy: "add it to upstreams in the environment file of the gateways, and send them SIGHUP; until then its operations answer 502"}
		if i == namesInWarning {
			finding.Message = fmt.Sprintf("no gateway has %d more upstreams that are named here", len(unknown)-i)
			return append(list, finding)
		}
		list = append(list, finding)
	}
	return list
}

func (o *operations) PublishApis(ctx context.Context, request PublishApisRequestObject) (PublishApisResponseObject, error) {
	select {
	case o.bulk <- struct{}{}:
		defer func() { <-o.bulk }()
	default:
		return nil, &refusal.Error{Code: refusal.CodeOverloaded, RetryAfter: time.Second, Detail: "Others publish many contracts at this moment: try again when they are done."}
	}
	documents, err := readDocuments(request.Body)
	if err != nil {
		return nil, err
	}
	plans, err := o.config.Catalog.PublishAll(ctx, documents, request.Params.DryRun)
	if err != nil {
		return nil, err
	}
	answer := PublishApis200JSONResponse{Plans: []api.Plan{}}
	upstreams := upstreamNames(o.config.Rollout.List(), time.Now())
	for i, plan := range plans {
		answer.Plans = append(answer.Plans, planAnswer(plan, documents[i].Name, upstreams))
		answer.Applied = answer.Applied || plan.Applied
		answer.Snapshot = max(answer.Snapshot, int64(plan.Snapshot))
	}
	return answer, nil
}

// readDocuments reads a document from each line.
func readDocuments(body io.Reader) (documents []catalog.Document, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxDocumentLine)
	number := 0
	for lines.Scan() {
		number++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		if len(documents) == catalog.MaxDocuments {
			return nil, refusal.Invalid("There are more than the %d documents that one request may have: send them in several.", catalog.MaxDocuments)
		}
		var line api.NamedDocument
		if !utf8.Valid(text) || json.Unmarshal(text, &line) != nil {
			return nil, refusal.Invalid(`Line %d is no JSON object in UTF-8 such as {"name": "thermo.yaml", "document": "openapi: 3.1.0 …"}.`, number)
		}
		if len(line.Name) > maxFileName || len(line.Document) > fieldgate.MaxDocumentBytes {
			return nil, refusal.Invalid("Line %d: a name has at most %d bytes, and a document %d MiB.", number, maxFileName, fieldgate.MaxDocumentBytes>>20)
		}
		if line.Name == "" {
			line.Name = fmt.Sprint("line ", number)
		}
		documents = append(documents, catalog.Document{Name: line.Name, Content: []byte(line.Document)})
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil, refusal.Invalid("Line %d has more than the %d MiB that a line with a document may have.", number+1, maxDocumentLine>>20)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(documents) == 0 {
		return nil, refusal.Invalid("There is no document in the request.")
	}
	return documents, nil
}
