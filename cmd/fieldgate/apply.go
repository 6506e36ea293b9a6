package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func newApply(c *cli) *cobra.Command {
	var source, tokens string
	var dryRun, yes, prune bool
	command := &cobra.Command{
		Use:   "apply -f FOLDER|FILE",
		Short: "Make the installation what a folder says: contracts, devices and apps",
		Long: `Make the installation what a folder says. It may hold contracts (*.yaml, *.yml, *.json) and lists of devices and apps:

  devices:
    - {id: d7, model: T2, firmware: 1.8.3, state: active}
  apps:
    - {id: dashboard, name: Plant dashboard, scopes: [telemetry:read]}

The plan is shown first: "+" creates, "~" changes, "=" leaves as it is, "-" ends (only with --prune). Applying twice
changes nothing the second time. Without --yes it asks before it changes anything. Contracts become live all at once or not at
all (more than ` + portionText + ` in several portions); devices and apps follow one by one.`,
		Example: `  fieldgate apply -f fleet/ --dry-run
  fieldgate apply -f fleet/ --yes --tokens new-tokens.ndjson`,
		Args: arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			if source == "" {
				return usagef("name the folder or file with -f")
			}
			if dryRun && yes {
				return usagef("--dry-run changes nothing, --yes does: give one of them")
			}
			wanted, err := readDesired(source)
			if err != nil {
				return err
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			ctx, out, notes := command.Context(), command.OutOrStdout(), command.ErrOrStderr()
			plan, err := planChanges(ctx, admin, notes, wanted, prune)
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				if err := printJSON(out, plan.steps); err != nil {
					return err
				}
			} else if err := printSteps(out, plan.steps); err != nil {
				return err
			}
			printFindings(notes, plan.findings)
			pending := plan.pending()
			switch {
			case len(pending) == 0:
				fmt.Fprintln(notes, "Nothing to do: everything is as it should be.")
				return nil
			case dryRun:
				fmt.Fprintf(notes, "%s would be made.\n", plural(len(pending), "change"))
				return nil
			case !yes:
				if err := confirm(command.InOrStdin(), notes, len(pending)); err != nil {
					return err
				}
			}
			secrets, err := openTokens(tokens)
			if err != nil {
				return err
			}
			if err := applySteps(ctx, admin, notes, pending, secrets); err != nil {
				return errors.Join(err, secrets.close())
			}
			fmt.Fprintf(notes, "%s made.\n", plural(len(pending), "change"))
			if secrets.unwritten > 0 {
				fmt.Fprintf(notes, "%s not shown: issue them with \"fieldgate device token\" or \"fieldgate app key\", or keep them next time with --tokens FILE.\n",
					plural(secrets.unwritten, "new secret"))
			}
			return secrets.close()
		},
	}
	flags := command.Flags()
	flags.StringVarP(&source, "file", "f", "", "folder, or a single file")
	flags.BoolVar(&dryRun, "dry-run", false, "only show the plan")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&prune, "prune", false, "retire APIs that the folder lacks; revoke devices and apps that its lists lack")
	flags.StringVar(&tokens, "tokens", "", "file to add the tokens and keys of new devices and apps to, one JSON object on each line")
	return command
}

func printSteps(w io.Writer, steps []*step) error {
	t := newTable(w)
	for _, s := range steps {
		mark := map[action]cell{actionCreate: {"+", green}, actionChange: {"~", yellow}, actionKeep: {"=", faint}, actionEnd: {"-", red}}[s.Action]
		t.add(mark, cell{text: s.Kind}, cell{s.ID, mark.colour}, cell{text: s.Detail})
		addStepRules(t, s)
	}
	return t.flush()
}

// confirm asks a person; without one nothing is changed.
func confirm(in io.Reader, notes io.Writer, changes int) error {
	if !isTerminalInput(in) {
		return usagef("nobody is there to be asked: add --yes to make these changes, or --dry-run to see them only")
	}
	return askYes(in, notes, fmt.Sprintf("Make %s?", plural(changes, "change")))
}

func isTerminalInput(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && isTerminal(file)
}

// askYes asks whoever sits at the terminal.
func askYes(in io.Reader, notes io.Writer, question string) error {
	fmt.Fprintf(notes, "%s [y/N] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// tokenFile keeps the secrets of what was created, for its owner only.
type tokenFile struct {
	file      *os.File // nil: nobody asked for them
	unwritten int
}

func openTokens(path string) (*tokenFile, error) {
	if path == "" {
		return &tokenFile{}, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := ownerOnly(file); err != nil {
		file.Close()
		return nil, err
	}
	return &tokenFile{file: file}, nil
}

func (t *tokenFile) add(kind, id, secret string) error {
	if t.file == nil {
		t.unwritten++
		return nil
	}
	line, err := json.Marshal(map[string]string{"kind": kind, "id": id, "token": secret})
	if err != nil {
		return err
	}
	_, err = t.file.Write(append(line, '\n'))
	return err
}

func (t *tokenFile) close() error {
	if t.file == nil {
		return nil
	}
	return errors.Join(t.file.Sync(), t.file.Close())
}
