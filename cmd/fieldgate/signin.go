package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/control/access"
)

func newSignIn(c *cli) *cobra.Command {
	var name, console string
	var quiet bool
	command := &cobra.Command{
		Use:   "sign-in",
		Short: "Make a one-time link that opens the console",
		Long: `Make a one-time link that opens the console. While nobody has claimed the installation it lasts 15 minutes, and lets its holder
make themselves the owner. Afterwards it is for a named operator, lasts 24 hours and has them set a new password: the way in for who
forgot theirs. It needs the token of the data folder, or that of an owner.`,
		Example: "  fieldgate sign-in\n  fieldgate sign-in --for ana",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if name == "" {
				name = access.NameSetup
			}
			answer, err := admin.InviteOperatorWithResponse(command.Context(), name)
			if err != nil {
				if name == access.NameSetup {
					return fmt.Errorf("%w Or name an operator with --for", err)
				}
				return hinted(err, operatorListing)
			}
			return c.printInvitation(command, admin, console, answer.JSON200, quiet)
		},
	}
	command.Flags().StringVar(&name, "for", "", "operator who signs in by it")
	linkFlags(command, &console, &quiet)
	return command
}

func linkFlags(command *cobra.Command, console *string, quiet *bool) {
	command.Flags().StringVar(console, "console", "", "address of the console in the link (default that of this node)")
	command.Flags().BoolVarP(quiet, "quiet", "q", false, "print nothing but the link, for scripts")
}

// signInLink is what programs are told of an invitation.
type signInLink struct {
	api.OperatorWithInvitation
	Link string `json:"link"`
}

func (c *cli) printInvitation(command *cobra.Command, admin *client.ClientWithResponses, console string, i *api.OperatorWithInvitation, quiet bool) error {
	if console == "" {
		var err error
		if console, err = consoleOf(command.Context(), admin); err != nil {
			return err
		}
	}
	// Browsers keep the fragment to themselves: it is in no log.
	link := strings.TrimRight(console, "/") + "/#token=" + i.Token
	out := command.OutOrStdout()
	switch {
	case quiet:
		_, err := fmt.Fprintln(out, link)
		return err
	case c.output == formatJSON:
		return printJSON(out, signInLink{*i, link})
	}
	fmt.Fprintln(command.ErrOrStderr(), "The link is shown only now, and opens the console once. Hand it over by a way that nobody else reads.")
	t := newTable(out)
	t.add(cells("operator", i.Operator.Name)...)
	t.add(cells("role", string(i.Operator.Role))...)
	t.add(cells("expires", shortTime(i.ExpiresAt))...)
	t.add(cell{text: "link"}, cell{text: link, colour: bold})
	return t.flush()
}

// consoleOf is the console's address as the node knows it. An address that other machines reach is served over TLS only.
func consoleOf(ctx context.Context, admin *client.ClientWithResponses) (string, error) {
	answer, err := admin.GetStatusWithResponse(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range answer.JSON200.Listeners {
		if l.Name != "admin" {
			continue
		}
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil {
			return "", err
		}
		address, err := netip.ParseAddr(host)
		if host == "localhost" || err == nil && address.IsLoopback() {
			return "http://" + l.Address, nil
		}
		if err == nil && address.IsUnspecified() {
			if host, err = os.Hostname(); err != nil {
				return "", err
			}
		}
		return "https://" + net.JoinHostPort(host, port), nil
	}
	return "", fmt.Errorf("this node serves no console: set listen.admin in its environment file, or name another one's address with --console")
}
