package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/protocol/coap"
)

func coapObserve(c *cli) *cobra.Command {
	var connect coapFlags
	var count int
	var limit time.Duration
	command := &cobra.Command{
		Use:   "observe URL",
		Short: "Observe a resource, and print each state that it takes (RFC 7641)",
		Long: `Observe a resource as a device or app would, and print each state that it takes until Ctrl-C, --count or --for: the payload, one line each, with
--output json one object a line. In the end the server is told that nobody listens any more. URL, token and keys are as for "fieldgate coap get".`,
		Example: `  fieldgate coap observe /trackers/t1/position --token-file app.token
  fieldgate coap observe coap://127.0.0.1/time --count 3 --output json`,
		Args: arguments("URL"),
		RunE: func(command *cobra.Command, args []string) error {
			call := &coap.Call{Code: coap.GET}
			target, err := connect.target(args[0], &call.Options)
			if err != nil {
				return err
			}
			if err := connect.prepare(call); err != nil {
				return err
			}
			link, err := connect.open(command.Context(), target)
			if err != nil {
				return err
			}
			defer link.Close()
			return observeAll(command.Context(), c, link, call, count, limit, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	connect.add(c, command)
	flags := command.Flags()
	flags.IntVar(&count, "count", 0, "end after so many states, the present one included")
	flags.DurationVar(&limit, "for", 0, "end after so long; with --count it is a failure if they have not come")
	return command
}

// observeAll prints states until there are enough.
func observeAll(ctx context.Context, c *cli, link *coapLink, call *coap.Call, count int, limit time.Duration, out, notes io.Writer) error {
	listening, v := link.keepVigil(ctx, call, notes)
	defer v.cancel(nil)
	defer v.heard()
	if limit > 0 {
		var cancel context.CancelFunc
		listening, cancel = context.WithTimeoutCause(listening, limit, errEnough)
		defer cancel()
	}
	printed := 0
	var failed error
	err := link.Observe(listening, call, func(reply *coap.Reply) bool {
		v.heard() // from now on silence only says that nothing has changed
		switch {
		case !reply.Code.IsSuccess():
			failed = refusal(reply)
			return false
		case reply.Last && printed == 0:
			failed = fmt.Errorf("%s does not let this resource be observed: its contract does not say so, or there are too many observers. This is its present state", link.target)
		case printed == 0 && isTerminal(notes):
			fmt.Fprintln(notes, "Observing; Ctrl-C ends it.")
		}
		if err := printState(c, out, reply); err != nil {
			failed = err
			return false
		}
		if len(reply.Body) == 0 {
			return true // there is no state yet
		}
		printed++
		return printed != count
	})
	switch {
	case failed != nil:
		return failed
	case err == nil, ctx.Err() != nil:
		return nil
	case errors.Is(context.Cause(listening), errEnough):
		if count > 0 {
			return fmt.Errorf("%s within %s, not %d", plural(printed, "state"), limit, count)
		}
		return nil
	}
	return link.explain(ctx, context.Cause(listening), err)
}

var errEnough = errors.New("enough")

func printState(c *cli, out io.Writer, reply *coap.Reply) error {
	if c.output == formatJSON {
		a := answerOf(reply)
		a.Time = time.Now()
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(a)
	}
	if len(reply.Body) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(out, shownBody(reply))
	return err
}
