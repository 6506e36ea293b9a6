package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/contract"
	"fieldgate/control/audit"
	"fieldgate/control/catalog"
	"fieldgate/control/insight"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// problemOf renders an error for the operator. One that is not meant for callers becomes an internal error without a word
// about its cause.
func problemOf(err error) api.Problem {
	var changed *changedError
	var refused *refusal.Error
	var invalid *contract.InvalidError
	var conflict *catalog.ConflictError
	var together *catalog.RefusedError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &changed):
		problem := problemOf(changed.cause)
		problem.Current, problem.Changes = changed.current, changed.changes
		return problem
	case errors.As(err, &together): // before what it holds
		return refusedTogether(together)
	case errors.As(err, &refused):
		switch refused.Code {
		case refusal.CodeNotFound:
			return newProblem(http.StatusNotFound, "not-found", "Not found", refused.Detail)
		case refusal.CodeConflict:
			return newProblem(http.StatusConflict, "conflict", "The decision does not fit the present state", refused.Detail)
		case refusal.CodeChanged:
			return newProblem(http.StatusPreconditionFailed, "changed", "Somebody else was faster", refused.Detail)
		case refusal.CodeInProgress:
			return newProblem(http.StatusConflict, "in-progress", "The first request is under way", refused.Detail)
		case refusal.CodeReusedKey:
			return newProblem(http.StatusUnprocessableEntity, "reused-key", "The key belongs to another request", refused.Detail)
		case refusal.CodeUnauthenticated:
			return newProblem(http.StatusUnauthorized, "unauthenticated", "Sign in, or send a valid token", refused.Detail)
		case refusal.CodeForbidden:
			return newProblem(http.StatusForbidden, "forbidden", "Not allowed", refused.Detail)
		case refusal.CodeRateLimited:
			return newProblem(http.StatusTooManyRequests, "too-many-attempts", "Too many attempts", refused.Detail)
		case refusal.CodeOverloaded:
			return newProblem(http.StatusServiceUnavailable, "overloaded", "Overloaded", refused.Detail)
		}
		return newProblem(http.StatusBadRequest, "invalid", "The request is invalid", refused.Detail)
	case errors.As(err, &invalid):
		problem := newProblem(http.StatusUnprocessableEntity, "invalid-contract", "The document is not a valid contract",
			"The document is not published: correct what the findings name.")
		problem.Findings = findings(invalid.Errors)
		return problem
	case errors.As(err, &conflict):
		problem := newProblem(http.StatusConflict, "route-conflict", "Another API serves these routes",
			"The contract is not published: give its routes other paths or topics, or retire the other API.")
		problem.Findings = conflictFindings("", conflict)
		return problem
	case errors.As(err, &tooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "too-large", "The request is too large", "A document has at most 8 MiB, many together 64 MiB, any other request 64 KiB.")
	case errors.Is(err, store.ErrUnknownOutcome): // before ErrUnavailable, which may be its cause
		return newProblem(http.StatusServiceUnavailable, "unavailable", "The database went away",
			"It was lost while it committed: look whether the change was made before you repeat it, or send it again with the same Idempotency-Key.")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, bus.ErrUnavailable):
		return newProblem(http.StatusServiceUnavailable, "unavailable", "The database or the bus does not answer",
			"Nothing was changed. What is in force on the gateways stays in force; try again in a moment.")
	case errors.Is(err, store.ErrBusy):
		return newProblem(http.StatusServiceUnavailable, "unavailable", "The database is held by another program",
			"Nothing was changed: another node that hangs, or a tool, holds what a decision needs. Try again in a moment.")
	case errors.Is(err, store.ErrFull):
		return newProblem(http.StatusInsufficientStorage, "disk-full", "The disk is full", "Nothing was changed: free some disk space and try again.")
	case errors.Is(err, insight.ErrTooManySubscribers), errors.Is(err, audit.ErrTooManyReaders):
		return newProblem(http.StatusServiceUnavailable, "overloaded", "Overloaded", err.Error())
	}
	return newProblem(http.StatusInternalServerError, "internal", "Internal error", "The log of the control plane says more.")
}

// maxProblemFindings bounds the problem of many documents.
const maxProblemFindings = 2000

// refusedTogether has the findings of all documents that were refused.
func refusedTogether(together *catalog.RefusedError) api.Problem {
	problem := newProblem(http.StatusConflict, "conflict", "The documents do not fit the present state or each other", "")
	for _, document := range together.Refused {
		var invalid *contract.InvalidError
		var conflict *catalog.ConflictError
		switch {
		case errors.As(document.Err, &invalid):
			problem.Status, problem.Type, problem.Title = http.StatusUnprocessableEntity, problemType("invalid-contract"), "Documents are no valid contracts"
			problem.Findings = append(problem.Findings, findings(invalid.Errors)...)
		case errors.As(document.Err, &conflict):
			problem.Findings = append(problem.Findings, conflictFindings(document.Name, conflict)...)
		default:
			problem.Findings = append(problem.Findings, api.ContractFinding{Severity: api.ContractFindingSeverityError, File: document.Name, Message: document.Err.Error()})
		}
	}
	are := "are"
	if len(together.Refused) == 1 {
		are = "is"
	}
	problem.Detail = fmt.Sprintf("None of the %d documents is published, because %d of them %s refused: correct what the findings name.", together.Documents, len(together.Refused), are)
	if more := len(problem.Findings) - maxProblemFindings; more > 0 {
		problem.Findings = append(problem.Findings[:maxProblemFindings], api.ContractFinding{Severity: api.ContractFindingSeverityError,
			Message: fmt.Sprintf("there are %d more findings", more), Remedy: "correct these first"})
	}
	return problem
}

// conflictFindings says which routes of a document others serve.
func conflictFindings(file string, conflict *catalog.ConflictError) (list []api.ContractFinding) {
	for _, c := range conflict.Conflicts {
		list = append(list, api.ContractFinding{Severity: api.ContractFindingSeverityError, File: file, Message: c.String(),
			Remedy: "give it another route, or retire " + c.LiveAPI + " " + c.LiveVersion})
	}
	return list
}

func problemType(code string) string { return "urn:fieldgate:problem:" + code }

func newProblem(status int, code, title, detail string) api.Problem {
	return api.Problem{Type: problemType(code), Title: title, Status: status, Detail: detail}
}

func findings(diagnostics []contract.Diagnostic) []api.ContractFinding {
	list := make([]api.ContractFinding, 0, len(diagnostics))
	for _, d := range diagnostics {
		list = append(list, api.ContractFinding{Severity: api.ContractFindingSeverity(d.Severity), File: d.File, Line: d.Line, Column: d.Column,
			Pointer: d.Pointer, Message: d.Message, Remedy: d.Remedy})
	}
	return list
}

func writeProblem(w http.ResponseWriter, problem api.Problem) {
	w.Header().Set("Content-Type", fieldgate.ProblemMediaType)
	w.WriteHeader(problem.Status)
	// An error here means that the client is gone.
	json.NewEncoder(w).Encode(problem)
}

// refuse answers with the problem that an error becomes, and logs the cause of an internal one.
func refuse(log *slog.Logger, w http.ResponseWriter, r *http.Request, err error) {
	problem := problemOf(err)
	var refused *refusal.Error
	if errors.As(err, &refused) && refused.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refused.RetryAfter.Seconds())))) // RFC 9110 section 10.2.3
	}
	if problem.Status >= 500 && r.Context().Err() == nil {
		log.Error("a request of the admin API failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeProblem(w, problem)
}

// refuseRequest answers a request that the generated code could not read.
func refuseRequest(w http.ResponseWriter, _ *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		writeProblem(w, problemOf(err))
		return
	}
	writeProblem(w, newProblem(http.StatusBadRequest, "invalid", "The request is invalid", err.Error()))
}
