package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

func apiDeprecate(c *cli) *cobra.Command {
	var sunset, successor string
	command := apiDecision(c, "deprecate", "Keep serving a version, and tell its callers that it will end",
		[]api.Lifecycle{api.LifecycleActive, api.LifecycleDeprecated},
		func(ctx context.Context, admin *client.ClientWithResponses, name, version string) (*api.Version, error) {
			body := api.Deprecation{Successor: successor}
			if sunset != "" {
				at, err := time.Parse(time.DateOnly, sunset)
				if err != nil {
					return nil, usagef("--sunset: %q is no date: give one such as 2027-06-30", sunset)
				}
				body.Sunset = at
			}
			answer, err := admin.DeprecateVersionWithResponse(ctx, name, version, nil, body)
			if err != nil {
				return nil, err
			}
			return answer.JSON200, nil
		})
	command.Flags().StringVar(&sunset, "sunset", "", "date when the version ends, such as 2027-06-30")
	command.Flags().StringVar(&successor, "successor", "", "version that callers should move to")
	return command
}

func apiRetire(c *cli) *cobra.Command {
	return apiDecision(c, "retire", "End a version; its callers are answered 410 Gone",
		[]api.Lifecycle{api.LifecycleActive, api.LifecycleDeprecated},
		func(ctx context.Context, admin *client.ClientWithResponses, name, version string) (*api.Version, error) {
			answer, err := admin.RetireVersionWithResponse(ctx, name, version, nil)
			if err != nil {
				return nil, err
			}
			return answer.JSON200, nil
		})
}

func apiRestore(c *cli) *cobra.Command {
	return apiDecision(c, "restore", "Make a deprecated, retired or superseded version active again",
		[]api.Lifecycle{api.LifecycleDeprecated, api.LifecycleRetired, api.LifecycleSuperseded},
		func(ctx context.Context, admin *client.ClientWithResponses, name, version string) (*api.Version, error) {
			answer, err := admin.RestoreVersionWithResponse(ctx, name, version, nil)
			if err != nil {
				return nil, err
			}
			return answer.JSON200, nil
		})
}

// apiDecision is a command that changes the lifecycle of a version; without --version there must be one that it can only mean.
func apiDecision(c *cli, verb, short string, from []api.Lifecycle,
	decide func(ctx context.Context, admin *client.ClientWithResponses, name, version string) (*api.Version, error)) *cobra.Command {
	var version string
	command := &cobra.Command{
		Use:     verb + " API",
		Short:   short,
		Example: fmt.Sprintf("  fieldgate api %s thermo --version 2.4.0", verb),
		Args:    arguments("API"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			version, err := chosenVersion(command.Context(), admin, args[0], version, from)
			if err != nil {
				return err
			}
			decided, err := decide(command.Context(), admin, args[0], version)
			if err != nil {
				return hinted(err, "fieldgate api show "+args[0])
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), decided)
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "%s %s is %s\n", decided.Api, decided.Version, decided.State)
			return err
		},
	}
	versionFlag(command, &version, "the only one that can be meant")
	return command
}

// chosenVersion is the version that was named, or else the newest one; among several in the states of from nothing is
// guessed.
func chosenVersion(ctx context.Context, admin *client.ClientWithResponses, name, named string, from []api.Lifecycle) (string, error) {
	if named != "" {
		return named, nil
	}
	answer, err := admin.GetApiWithResponse(ctx, name)
	if err != nil {
		return "", hinted(err, apiListing)
	}
	if from == nil {
		return answer.JSON200.Versions[0].Version, nil
	}
	var candidates []string
	for _, v := range answer.JSON200.Versions {
		if slices.Contains(from, v.State) {
			candidates = append(candidates, v.Version)
		}
	}
	switch len(candidates) {
	case 0:
		return "", fmt.Errorf("no version of %s is in a state for that (see \"fieldgate api show %s\")", name, name)
	case 1:
		return candidates[0], nil
	}
	return "", usagef("name one of the versions %s with --version", strings.Join(candidates, ", "))
}
