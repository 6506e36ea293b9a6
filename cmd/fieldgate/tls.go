package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"fieldgate/gateway/certificates"
)

func newTLS(c *cli) *cobra.Command {
	ca := &cobra.Command{
		Use:   "ca",
		Short: "Print the certificate of this node's own authority",
		Long: `Print the certificate of the authority that this node issues its own certificates with (setting tls.internal-ca), in PEM form. Clients
that trust it can reach this node by TLS. It is read from the data folder: the node need not run.`,
		Example: "  fieldgate tls ca > fieldgate-ca.pem\n  curl --cacert fieldgate-ca.pem https://gateway.lan:8443/",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			e, err := readEnvironment(c.environmentPath())
			if err != nil {
				return err
			}
			path := filepath.Join(e.tlsFolder(), certificates.AuthorityFile)
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return errors.New("this node has no authority yet: set tls.internal-ca in the environment file, such as {names: [gateway.lan]}, and start the node")
			}
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), map[string]string{"certificate": string(text)})
			}
			_, err = fmt.Fprint(command.OutOrStdout(), string(text))
			return err
		},
	}
	return noun(&cobra.Command{
		Use:     "tls",
		Short:   "Certificates of the gateway",
		Example: "  fieldgate tls ca > fieldgate-ca.pem",
		Args:    arguments(),
	}, ca)
}
