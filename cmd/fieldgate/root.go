package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// cli holds the flags that all commands share.
type cli struct {
	config    string
	admin     string
	tokenFile string
	output    format
}

func newRoot(c *cli) *cobra.Command {
	root := noun(&cobra.Command{
		Use:   "fieldgate",
		Short: "API management for devices: one contract over HTTP, WebSocket, MQTT and CoAP",
		Long: `Fieldgate stands between devices and the services and apps that talk to them.
An API exists because somebody published its contract; everything follows from it.`,
		Example: `  fieldgate demo                            # see it work, with a simulated fleet
  fieldgate init && fieldgate serve         # run it for your own devices
  fieldgate api publish thermo.openapi.yaml # make an API live
  fieldgate device add d7                   # admit a device`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.SetHelpCommand(newHelp(root))
	flags := root.PersistentFlags()
	flags.StringVar(&c.config, "config", "", "environment file (default $FIELDGATE_CONFIG, else fieldgate.yaml)")
	flags.StringVar(&c.admin, "admin", "", "address of the admin API: unix:PATH or http://HOST:PORT (default the socket file of the environment file)")
	flags.StringVar(&c.tokenFile, "token-file", "", "file with the operator token (default the one in the data folder)")
	flags.VarP(&c.output, "output", "o", "form of the answer: table or json")
	root.AddCommand(newInit(c), newServe(c), newDemo(), newAPI(c), newDevice(c), newApp(c), newUpstream(c), newMQTT(c), newCoAP(c), newTraffic(c), newStatus(c), newDoctor(c),
		newApply(c), newSignIn(c), newOperator(c), newToken(c), newAudit(c), newTLS(c), newDB(c), newVersion(c), newCompletion())
	return root
}

func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Show the help of a command",
		Example: "  fieldgate help device add",
		RunE: func(_ *cobra.Command, args []string) error {
			command, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("there is no command %q", strings.Join(args, " "))
			}
			return command.Help()
		},
	}
}

// noun makes a command that only holds others: alone it shows its help, and with a word that is none of them it suggests one.
func noun(command *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	command.AddCommand(verbs...)
	command.SuggestionsMinimumDistance = 2
	command.Args = cobra.ArbitraryArgs
	command.RunE = func(command *cobra.Command, args []string) error {
		if len(args) == 0 {
			return command.Help()
		}
		text := fmt.Sprintf("%q is no command of %q", args[0], command.CommandPath())
		if near := command.SuggestionsFor(args[0]); len(near) > 0 {
			text += fmt.Sprintf("; did you mean %q?", command.CommandPath()+" "+near[0])
		}
		return usagef("%s", text)
	}
	return command
}

// arguments demands exactly the named arguments.
func arguments(names ...string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return usagef("%q takes no arguments, not %q", command.CommandPath(), args[0])
		}
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		return usagef("%q is one argument too many", args[len(names)])
	}
}
