package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

// diagnosis is one finding of the doctor.
type diagnosis struct {
	Severity api.ContractFindingSeverity `json:"severity"`
	Code     string                      `json:"code"`
	Subject  string                      `json:"subject,omitempty"`
	Message  string                      `json:"message"`
	Remedy   string                      `json:"remedy"`
}

const (
	severityError   = api.ContractFindingSeverityError
	severityWarning = api.ContractFindingSeverityWarning
)

func newDoctor(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		Short:   "Look for what is wrong or risky, and say what to do about it",
		Long:    "Look for what is wrong or risky in this installation, and say what to do about it. Exits with 1 if anything is an error.",
		Example: "  fieldgate doctor\n  fieldgate doctor --output json",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			found := c.diagnose(command.Context())
			out := command.OutOrStdout()
			if c.output == formatJSON {
				if err := printJSON(out, found); err != nil {
					return err
				}
			} else if len(found) == 0 {
				fmt.Fprintln(out, "Nothing is wrong.")
			} else if err := printDiagnoses(out, found); err != nil {
				return err
			}
			for _, d := range found {
				if d.Severity == severityError {
					return errSilent
				}
			}
			return nil
		},
	}
}

// diagnose looks at the files of the installation, at whether it answers, and at what it says of itself.
func (c *cli) diagnose(ctx context.Context) []diagnosis {
	found := []diagnosis{}
	fail := func(code string, err error, remedy string) []diagnosis {
		return append(found, diagnosis{Severity: severityError, Code: code, Message: err.Error(), Remedy: remedy})
	}
	if c.admin == "" {
		e, err := readEnvironment(c.environmentPath())
		if err != nil {
			// What runs goes on by what it read before, and can be asked.
			found = fail("environment", err, "Correct the file; \"fieldgate init\" writes one with all settings.")
			if e, err = readAdminPlace(c.environmentPath()); err != nil {
				return found
			}
		}
		if info, err := os.Stat(e.Data); err == nil && info.Mode().Perm()&0o077 != 0 {
			found = append(found, diagnosis{severityWarning, "data-folder-open", e.Data, fmt.Sprintf("Others may enter the data folder (mode %04o).", info.Mode().Perm()),
				fmt.Sprintf("Run \"chmod 700 %s\".", e.Data)})
		}
		if e.MQTT.OnRamp.isOpen() {
			found = append(found, diagnosis{severityWarning, "on-ramp-open", "mqtt.on-ramp", "Anybody who reaches this machine may publish and hear every topic that no contract explains.",
				"Set mqtt.on-ramp.password-file in place of anonymous, or listen at an address of this machine only."})
		}
		found = append(found, e.diagnoseCoAP()...)
	}
	admin, err := c.connect()
	if err != nil {
		return fail("operator-token", err, "Without the token nothing can be asked.")
	}
	answer, err := admin.GetStatusWithResponse(ctx)
	switch {
	case errors.Is(err, client.ErrUnreachable):
		return fail("not-running", err, "Start it with \"fieldgate serve\".")
	case err != nil:
		return fail("status", err, "Look into the log of \"fieldgate serve\".")
	}
	return append(found, diagnosesOf(answer.JSON200.Warnings)...)
}

// diagnosesOf are the server's warnings: an error is what fails callers or loses something now.
func diagnosesOf(warnings []api.Warning) []diagnosis {
	found := make([]diagnosis, len(warnings))
	for i := range warnings {
		w := &warnings[i]
		found[i] = diagnosis{severityWarning, string(w.Code), subject(w), w.Message, w.Remedy}
		if w.Severity == api.SeverityBad {
			found[i].Severity = severityError
		}
	}
	return found
}

func printDiagnoses(w io.Writer, found []diagnosis) error {
	t := newTable(w)
	for _, d := range found {
		colour := yellow
		if d.Severity == severityError {
			colour = red
		}
		t.add(cell{string(d.Severity), colour}, cell{text: d.Code}, cell{text: d.Message})
		t.add(cell{}, cell{}, cell{d.Remedy, faint})
	}
	return t.flush()
}
