package main

import "github.com/spf13/cobra"

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:       "completion {bash|zsh|fish|powershell}",
		Short:     "Print a script that completes commands and flags in a shell",
		Example:   "  source <(fieldgate completion bash)\n  fieldgate completion zsh > \"${fpath[1]}/_fieldgate\"",
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      arguments("SHELL"),
		RunE: func(command *cobra.Command, args []string) error {
			root, out := command.Root(), command.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usagef("%q is not a shell that is known here: bash, zsh, fish, powershell", args[0])
		},
	}
}
