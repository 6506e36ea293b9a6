package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/control/catalog"
)

// publishAll sends documents by their names, in the order given as name, document, name, document.
func (n *node) publishAll(t *testing.T, dryRun bool, documents ...string) (*client.PublishApisResponse, *api.Problem) {
	t.Helper()
	var lines bytes.Buffer
	for i := 0; i < len(documents); i += 2 {
		if err := json.NewEncoder(&lines).Encode(api.NamedDocument{Name: documents[i], Document: documents[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	return n.publishLines(t, dryRun, &lines)
}

func (n *node) publishLines(t *testing.T, dryRun bool, lines io.Reader) (*client.PublishApisResponse, *api.Problem) {
	t.Helper()
	answer, err := n.PublishApisWithBodyWithResponse(t.Context(), &api.PublishApisParams{DryRun: dryRun}, "application/x-ndjson", lines)
	var problem *api.Problem
	if err != nil && !errors.As(err, &problem) {
		t.Fatal(err)
	}
	return answer, problem
}

func TestPublishApis(t *testing.T) {
	n := start(t, socketDirectory(t))
	hygro := strings.NewReplacer("Thermo", "Hygro", "telemetry", "humidity").Replace(thermo)
	answer, problem := n.publishAll(t, true, "thermo.yaml", thermo, "hygro.yaml", hygro)
	if problem != nil || answer.JSON200.Applied || answer.JSON200.Snapshot != 0 || len(answer.JSON200.Plans) != 2 {
		t.Fatalf("%+v %v", answer, problem)
	}
	answer, problem = n.publishAll(t, false, "thermo.yaml", thermo, "hygro.yaml", hygro)
	if problem != nil {
		t.Fatal(problem)
	}
	got := answer.JSON200
	if !got.Applied || got.Snapshot != 1 || got.Plans[0].Api != "thermo" || got.Plans[1].Api != "hygro" || got.Plans[1].Change != api.ChangeNewApi || !got.Plans[1].Applied {
		t.Fatalf("%+v", got)
	}
	answer, problem = n.publishAll(t, false, "thermo.yaml", thermo, "hygro.yaml", hygro)
	if problem != nil || answer.JSON200.Applied || answer.JSON200.Snapshot != 0 {
		t.Fatalf("%+v %v", answer, problem)
	}
}

// The findings of all documents come in one answer, with their names, and nothing is published.
func TestPublishApisSaysAllThatIsWrong(t *testing.T) {
	n := start(t, socketDirectory(t))
	n.publish(t, thermo)
	rival, fine := strings.Replace(thermo, "Thermo", "Rival", 1), strings.NewReplacer("Thermo", "Fine", "telemetry", "fine").Replace(thermo)
	_, problem := n.publishAll(t, false, "fine.yaml", fine, "broken.yaml", "openapi: 3.1.0\npaths: {}\n", "rival.yaml", rival)
	if problem == nil || problem.Status != 422 || problem.Type != "urn:fieldgate:problem:invalid-contract" || !strings.Contains(problem.Detail, "None of the 3 documents") {
		t.Fatalf("%+v", problem)
	}
	files := make(map[string]int)
	for _, f := range problem.Findings {
		files[f.File]++
	}
	if files["broken.yaml"] == 0 || files["rival.yaml"] != 2 || files["fine.yaml"] != 0 {
		t.Errorf("%v", files)
	}
	if _, problem = n.publishAll(t, false, "fine.yaml", fine, "rival.yaml", rival); problem == nil || problem.Status != 409 || len(problem.Findings) != 2 {
		t.Errorf("%+v", problem)
	}
	if _, err := n.GetApiWithResponse(t.Context(), "fine"); status(err) != 404 {
		t.Errorf("a document beside one that is refused: %v", err)
	}
}

func TestPublishApisIsBounded(t *testing.T) {
	t.Parallel()
	n := start(t, socketDirectory(t))
	for what, test := range map[string]struct {
		lines  io.Reader
		status int
		detail string
	}{
		"nothing":                {strings.NewReader("\n\n"), 400, "no document"},
		"no JSON":                {strings.NewReader("{}\nnope\n"), 400, "Line 2 is no JSON object"},
		"no UTF-8":               {strings.NewReader("{\"document\": \"\xff\"}\n"), 400, "Line 1 is no JSON object in UTF-8"},
		"too many documents":     {strings.NewReader(strings.Repeat("{\"document\":\"\"}\n", catalog.MaxDocuments+1)), 400, "more than the 2000 documents"},
		"too long a name":        {strings.NewReader(fmt.Sprintf(`{"name":%q,"document":""}`, strings.Repeat("n", 1025))), 400, "1024 bytes"},
		"too large a document":   {strings.NewReader(`{"document":"` + strings.Repeat(" ", 8<<20+1) + `"}`), 400, "8 MiB"},
		"too long a line":        {strings.NewReader(`{"document":"` + strings.Repeat(" ", 25<<20) + `"}`), 400, "24 MiB"},
		"more than 64 MiB":       {io.LimitReader(endless{}, 64<<20+1), 400, "24 MiB"},
		"more than 64 MiB, told": {bytes.NewReader(make([]byte, 64<<20+1)), 413, "64 MiB"},
		"more lines than 64 MiB": {io.MultiReader(strings.NewReader(strings.Repeat("\n", 64<<20)), strings.NewReader("{}\n")), 413, "64 MiB"},
	} {
		if testing.Short() && strings.Contains(what, "64 MiB") {
			continue // slow under the race detector, which has nothing to find there
		}
		_, problem := n.publishLines(t, true, test.lines)
		if problem == nil || problem.Status != test.status || !strings.Contains(problem.Detail, test.detail) {
			t.Errorf("%s: %+v", what, problem)
		}
	}
	_, problem := n.publishLines(t, true, strings.NewReader("\n{\"document\":\"\"}\n"))
	if problem == nil || problem.Status != 422 || problem.Findings[0].File != "line 2" {
		t.Errorf("a document without a name: %+v", problem)
	}
}
