package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

func deviceImport(c *cli) *cobra.Command {
	var tokens string
	var all bool
	command := &cobra.Command{
		Use:   "import FILE",
		Short: "Register many devices, one JSON object on each line",
		Long: `Register many devices: FILE, or "-" for standard input, has one JSON object on each line, such as

  {"id": "d7", "model": "T2", "firmware": "1.8.3"}

Lines that are refused do not hold up the others, unless --all-or-nothing says so. Tokens are shown only now: they are written
to standard output, or to the file that --tokens names, one JSON object on each line; refused lines and progress go to standard error.`,
		Example: "  fieldgate device import devices.ndjson --tokens tokens.ndjson\n  fieldgate device import devices.ndjson --all-or-nothing > tokens.ndjson",
		Args:    arguments("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			lines := command.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close()
				lines = file
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			kept, err := openTokens(tokens)
			if err != nil {
				return err
			}
			mode := api.ImportGood
			if all {
				mode = api.ImportAll
			}
			i := &importing{out: command.OutOrStdout(), notes: command.ErrOrStderr(), kept: kept}
			return errors.Join(i.run(command.Context(), admin, mode, lines), kept.close())
		},
	}
	command.Flags().StringVar(&tokens, "tokens", "", "file, for its owner only, to add the tokens to")
	command.Flags().BoolVar(&all, "all-or-nothing", false, "register nothing unless every line is good")
	return command
}

// importing reads the answer to an import.
type importing struct {
	out, notes io.Writer
	kept       *tokenFile
}

func (i *importing) run(ctx context.Context, admin *client.ClientWithResponses, mode api.ImportDevicesParamsMode, lines io.Reader) error {
	// Not through the generated reader, which would take the lines for one object.
	answer, err := admin.ImportDevicesWithBody(ctx, &api.ImportDevicesParams{Mode: mode}, "application/x-ndjson", lines)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	decoder := json.NewDecoder(answer.Body)
	for {
		var line api.ImportLine
		if err := decoder.Decode(&line); errors.Is(err, io.EOF) {
			return errors.New("the server ended the answer before its summary: look at \"fieldgate device list\" for what was registered")
		} else if err != nil {
			return fmt.Errorf("the answer to the import cannot be read: %w", err)
		}
		if line.Done {
			return i.sum(&line)
		}
		if err := i.show(&line); err != nil {
			return err
		}
	}
}

func (i *importing) show(line *api.ImportLine) error {
	switch {
	case line.Problem != nil:
		i.progress("")
		_, err := fmt.Fprintf(i.notes, "line %d: %s\n", line.Line, printable(line.Problem.Error()))
		return err
	case line.Token != "" && i.kept.file != nil:
		return i.kept.add("device", line.Id, line.Token)
	case line.Token != "":
		return json.NewEncoder(i.out).Encode(map[string]string{"kind": "device", "id": line.Id, "token": line.Token})
	case line.Added > 0:
		i.progress(fmt.Sprintf("%s registered", plural(line.Added, "device")))
	case line.Checked > 0:
		i.progress(fmt.Sprintf("%s checked", plural(line.Checked, "line")))
	}
	return nil
}

// progress writes over the line before it, for people only.
func (i *importing) progress(text string) {
	if isTerminal(i.notes) {
		fmt.Fprintf(i.notes, "\r\x1b[K%s", text) // erase the line (ECMA-48 EL)
	}
}

func (i *importing) sum(line *api.ImportLine) error {
	i.progress("")
	fmt.Fprintf(i.notes, "%s read: %s registered, %d refused\n", plural(line.Lines, "line"), plural(line.Added, "device"), line.Refused)
	if line.Refused > 0 {
		return errSilent
	}
	if line.Applied == nil || !*line.Applied {
		return errors.New("no device was registered")
	}
	return nil
}
