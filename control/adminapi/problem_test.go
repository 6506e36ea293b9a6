package adminapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fieldgate/api"
	"fieldgate/contract"
	"fieldgate/control/audit"
	"fieldgate/control/catalog"
	"fieldgate/control/insight"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// The contract of the admin API is one that Fieldgate itself would publish, and names every status and code that is answered.
func TestContract(t *testing.T) {
	own, err := readOwn()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range own.Diagnostics {
		if strings.Contains(d.Message, "example") && !strings.Contains(d.Message, "no upstream") {
			t.Error(d)
		}
	}
	problems := []api.Problem{
		newProblem(http.StatusUnauthorized, "unauthenticated", "", ""),
		newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "", ""),
	}
	for _, err := range []error{refusal.Invalid("x"), refusal.NotFound("x"), refusal.Conflict("x"), refusal.Changed("x"), refusal.InProgress("x"), refusal.ReusedKey("x"), store.ErrUnavailable, store.ErrBusy, &contract.InvalidError{},
		&catalog.ConflictError{}, &http.MaxBytesError{}, store.ErrFull, insight.ErrTooManySubscribers, audit.ErrTooManyReaders, errors.New("x")} {
		problems = append(problems, problemOf(err))
	}
	// A commit that was cut off may have been carried out, whatever the reason of the cut.
	if p := problemOf(fmt.Errorf("%w (%w)", store.ErrUnavailable, store.ErrUnknownOutcome)); !strings.Contains(p.Detail, "look whether the change was made") {
		t.Errorf("%+v", p)
	}
	for _, p := range problems {
		row := fmt.Sprintf("| %d | `%s` |", p.Status, strings.TrimPrefix(p.Type, "urn:fieldgate:problem:"))
		if !strings.Contains(string(api.Document), row) {
			t.Errorf("the contract does not declare %s", row)
		}
	}
}
