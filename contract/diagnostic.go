package contract

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Severity says whether a diagnostic keeps the contract from being compiled.
type Severity string

const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one thing that is wrong or doubtful in a document: where it stands, what it is, what to do.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`    // counted from 1
	Column   int      `json:"column"`  // counted from 1
	Pointer  string   `json:"pointer"` // JSON Pointer (RFC 6901); empty for the whole document
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy"`
}

// maxPointer bounds a pointer in a line of text; Diagnostic.Pointer has it whole.
const maxPointer = 250

// String is the form that compilers use, so that editors and terminals find the place.
func (d Diagnostic) String() string {
	text := fmt.Sprintf("%s:%d:%d: %s: %s", d.File, d.Line, d.Column, d.Severity, d.Message)
	if d.Remedy != "" {
		text += "; " + d.Remedy
	}
	if len(d.Pointer) > maxPointer {
		text += " (" + strings.ToValidUTF8(d.Pointer[:maxPointer], "") + "…)"
	} else if d.Pointer != "" {
		text += " (" + d.Pointer + ")"
	}
	return text
}

// InvalidError is what Compile returns for a document that is not a contract. It holds the errors, without the warnings.
type InvalidError struct {
	Errors []Diagnostic
}

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Errors))
	for i, d := range e.Errors {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// maxDiagnostics bounds what one document can make us say.
const maxDiagnostics = 200

func (c *compiler) fail(at *node, remedy, format string, arguments ...any) {
	c.failed = true
	c.report(SeverityError, at, remedy, format, arguments...)
}

// excess reports what ends the compilation, because to go on would cost too much.
func (c *compiler) excess(at *node, remedy, format string, arguments ...any) {
	if !c.exceeded {
		c.fail(at, remedy, format, arguments...)
	}
	c.exceeded = true
}

func (c *compiler) warn(at *node, remedy, format string, arguments ...any) {
	c.report(SeverityWarning, at, remedy, format, arguments...)
}

func (c *compiler) report(severity Severity, at *node, remedy, format string, arguments ...any) {
	full := len(c.diagnostics) >= maxDiagnostics
	if full && (severity == SeverityWarning || !c.dropWarning()) {
		return
	}
	d := Diagnostic{Severity: severity, File: c.file, Line: 1, Column: 1, Message: fmt.Sprintf(format, arguments...), Remedy: remedy}
	if at != nil {
		d.Line, d.Column, d.Pointer = at.line, at.column, at.pointer()
	}
	for _, earlier := range c.diagnostics { // what a shared component says wrong is said once, not for each use
		if earlier == d {
			return
		}
	}
	c.diagnostics = append(c.diagnostics, d)
}

// dropWarning makes place for an error, so that no number of warnings hides why a document is refused.
func (c *compiler) dropWarning() bool {
	i := slices.IndexFunc(c.diagnostics, func(d Diagnostic) bool { return d.Severity == SeverityWarning })
	if i >= 0 {
		c.diagnostics = slices.Delete(c.diagnostics, i, i+1)
	}
	return i >= 0
}

// sorted is the diagnostics in the order of the document.
func (c *compiler) sorted() []Diagnostic {
	sort.SliceStable(c.diagnostics, func(i, j int) bool {
		a, b := c.diagnostics[i], c.diagnostics[j]
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	return c.diagnostics
}

// didYouMean is the remedy for a word that is none of the known ones: the closest, or else all of them.
func (c *compiler) didYouMean(word string, known []string) string {
	if len(c.diagnostics) >= maxDiagnostics {
		return "" // nobody will read it
	}
	best, bestDistance := "", len(word)/2+1
	for _, candidate := range known[:min(len(known), maxCandidates)] {
		if d := editDistance(strings.ToLower(word), strings.ToLower(candidate)); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "remove it"
	}
	sorted := append([]string(nil), known...)
	sort.Strings(sorted)
	if len(sorted) > 30 {
		return fmt.Sprintf("%s%s and %d more", knownAre, strings.Join(sorted[:30], ", "), len(sorted)-30)
	}
	return knownAre + strings.Join(sorted, ", ")
}

const knownAre = "known are "

// maxCandidates bounds how many words are compared for one remedy.
const maxCandidates = 1000

// editDistance is the Levenshtein distance of two short words; long ones are simply far apart.
func editDistance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// excerpt shortens a text of the document for a message.
func excerpt(text string) string {
	const longest = 120
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}
