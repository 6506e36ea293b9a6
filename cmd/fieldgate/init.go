package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"fieldgate/control/access"
)

func newInit(c *cli) *cobra.Command {
	var data string
	command := &cobra.Command{
		Use:   "init",
		Short: "Prepare an installation: environment file, data folder, operator token",
		Long: `Prepare an installation in this folder: the environment file with all its settings, the data folder, and the operator token,
which only its owner can read. What exists already is left as it is.`,
		Example: "  fieldgate init && fieldgate serve\n  fieldgate init --data /var/lib/fieldgate --config /etc/fieldgate.yaml",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			path := c.environmentPath()
			if _, err := os.Lstat(path); err == nil {
				return fmt.Errorf("%s exists already and is left as it is: change it with an editor, or name another file with --config", path)
			}
			e := defaultEnvironment()
			e.Data = data
			token, err := prepare(path, e)
			if err != nil {
				return err
			}
			out := command.OutOrStdout()
			if c.output == formatJSON {
				return printJSON(out, map[string]string{"config": path, "data": data, "tokenFile": token})
			}
			fmt.Fprintf(out, "%s  the environment: addresses, upstreams\n%s  the operator token; keep it to yourself\n", path, token)
			fmt.Fprint(command.ErrOrStderr(), `
Next:
  fieldgate serve                              # in this terminal
  fieldgate api publish FILE                   # in another one: make the API of a contract live
  fieldgate device add d7                      # admit a device
`)
			return nil
		},
	}
	command.Flags().StringVar(&data, "data", "data", "folder for the database, the streams and the operator token")
	return command
}

// prepare writes the environment file and the operator token, and gives the token's file.
func prepare(path string, e environment) (tokenFile string, err error) {
	if err := e.check(); err != nil {
		return "", err
	}
	folder := e.Data
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(filepath.Dir(path), folder)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	if _, _, err := access.LoadOperator(folder); err != nil {
		return "", err
	}
	if err := e.write(path); err != nil {
		return "", err
	}
	return filepath.Join(folder, access.OperatorTokenFile), nil
}
