package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"fieldgate/api"
)

// usageError is a mistake in the call of the command itself.
type usageError struct{ cause error }

func (e *usageError) Error() string { return e.cause.Error() }
func (e *usageError) Unwrap() error { return e.cause }

func usagef(format string, arguments ...any) error {
	return &usageError{fmt.Errorf(format, arguments...)}
}

// errSilent ends a command with a failure that its answer has told already.
var errSilent = errors.New("")

// printError tells what went wrong. Programs get the problem as the server sent it.
func printError(w io.Writer, output format, err error) {
	problem := new(api.Problem)
	if !errors.As(err, &problem) {
		if err.Error() != "" {
			fmt.Fprintln(w, "fieldgate:", err)
		}
		return
	}
	if output == formatJSON {
		encoded, _ := json.Marshal(problem)
		fmt.Fprintf(w, "%s\n", encoded)
		return
	}
	printFindings(w, problem.Findings)
	fmt.Fprintln(w, "fieldgate:", err)
}

// printFindings writes findings in the form of compilers, so that editors and terminals lead to the place.
func printFindings(w io.Writer, findings []api.ContractFinding) {
	for _, f := range findings {
		place := f.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
		}
		if place != "" {
			place += ": "
		}
		fmt.Fprintf(w, "%s%s: %s\n", place, f.Severity, f.Message)
		if f.Remedy != "" {
			fmt.Fprintf(w, "    %s\n", f.Remedy)
		}
	}
}

func hintUsage(w io.Writer, command *cobra.Command) {
	if !command.HasSubCommands() {
		fmt.Fprintf(w, "Usage: %s\n", command.UseLine())
	}
	fmt.Fprintf(w, "See \"%s --help\".\n", command.CommandPath())
}

// hinted adds to a "not found" where to look for the right name.
func hinted(err error, listing string) error {
	problem := new(api.Problem)
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
		return fmt.Errorf("%w See %q", err, listing)
	}
	return err
}
