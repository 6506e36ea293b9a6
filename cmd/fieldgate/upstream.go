package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/control/rollout"
)

const upstreamListing = "fieldgate upstream list"

const registrationRemedy = "taken by no gateway: write discover: {registered: true} in the environment file"

func newUpstream(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "upstream",
		Short: "See how gateways see the services behind them, and register addresses of services",
		Example: `  fieldgate upstream list
  fieldgate upstream register therapy http://10.0.0.7:9000 --ttl 30s`,
	}, upstreamList(c), upstreamShow(c), upstreamRegister(c), upstreamRemove(c))
}

func upstreamList(c *cli) *cobra.Command {
	var wanted *filterFlags
	command := &cobra.Command{
		Use:     "list",
		Short:   "List upstreams in the order of their names, over all gateways",
		Example: "  fieldgate upstream list\n  fieldgate upstream list --state unhealthy --output json",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			return printPages(c, command.OutOrStdout(), []string{"UPSTREAM", "STATE", "HEALTHY", "CIRCUIT", "BALANCE", "IN FLIGHT", "LATENCY", "FAILED", "GATEWAYS"}, func(cursor string) ([]api.Upstream, string, error) {
				answer, err := admin.ListUpstreamsWithResponse(command.Context(), &api.ListUpstreamsParams{Filter: wanted.String(), Cursor: cursor, Limit: pageSize})
				if err != nil {
					return nil, "", err
				}
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(u api.Upstream) []cell {
				return []cell{{text: u.Name}, upstreamState(&u), {text: fmt.Sprintf("%d of %d", u.Healthy, u.Healthy+u.Unhealthy)}, circuitCell(u.Circuit),
					{text: dash(u.Algorithm)}, {text: fmt.Sprint(u.InFlight)}, {text: latencyText(u.Latency)}, {text: fmt.Sprintf("%d of %d", u.Failures, u.Calls)}, {text: fmt.Sprint(len(u.Gateways))}}
			})
		},
	}
	wanted = addFilter(command, "name, state, circuit, algorithm and node").
		key("state", "state", "", "only upstreams in this state: healthy or unhealthy").
		key("node", "node", "", "only upstreams of this gateway")
	return command
}

func upstreamShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "show UPSTREAM",
		Short:   "Show one upstream: its addresses as each gateway sees them, and why one is left out",
		Example: "  fieldgate upstream show therapy",
		Args:    arguments("UPSTREAM"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.GetUpstreamWithResponse(command.Context(), args[0])
			if err != nil {
				return hinted(err, upstreamListing)
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			return printUpstream(command.OutOrStdout(), answer.JSON200)
		},
	}
}

func upstreamRegister(c *cli) *cobra.Command {
	var target api.NewTarget
	ttl := time.Minute
	command := &cobra.Command{
		Use:   "register UPSTREAM ADDRESS",
		Short: "Register an address of a service for its time to live, or renew it",
		Long: `Register an address of a service for its time to live, or renew it by doing so again. Gateways use it while the environment file says
discover: {registered: true} for the upstream. It needs the scope targets.write.`,
		Example: `  fieldgate upstream register therapy http://10.0.0.7:9000
  fieldgate upstream register therapy http://10.0.0.7:9000 --weight 3 --zone hall-3 --priority 1 --ttl 30s`,
		Args: arguments("UPSTREAM", "ADDRESS"),
		RunE: func(command *cobra.Command, args []string) error {
			if target.Weight < 1 || target.Weight > 1000 {
				return usagef("--weight is 1 to 1000")
			}
			if ttl%time.Second != 0 {
				return usagef("--ttl is in whole seconds, such as 30s or 10m")
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			target.TtlSeconds = int(ttl / time.Second)
			answer, err := admin.RegisterTargetWithResponse(command.Context(), args[0], args[1], nil, target)
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			if err := printTarget(command.OutOrStdout(), answer.JSON200); err != nil {
				return err
			}
			// It is not wrong to register before a gateway knows the upstream, but nobody should wait for calls that cannot come.
			// A program whose token may register only is not told: it may not read upstreams.
			if upstream, err := admin.GetUpstreamWithResponse(command.Context(), args[0]); err == nil && !upstream.JSON200.Registered {
				fmt.Fprintf(command.ErrOrStderr(), "The address is %s.\n", registrationRemedy)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.IntVar(&target.Weight, "weight", 1, "share of the calls, 1 to 1000")
	flags.StringVar(&target.Zone, "zone", "", "where the address is; gateways of that zone use it first")
	flags.IntVar(&target.Priority, "priority", 0, "the lowest is used first, 0 to 15")
	flags.DurationVar(&ttl, "ttl", ttl, "how long it counts unless it is renewed, 10s to 24h")
	return command
}

func upstreamRemove(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "remove UPSTREAM ADDRESS",
		Short:   "Take a registered address out at once; calls under way end undisturbed",
		Example: "  fieldgate upstream remove therapy http://10.0.0.7:9000",
		Args:    arguments("UPSTREAM", "ADDRESS"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if _, err := admin.RemoveTargetWithResponse(command.Context(), args[0], args[1], nil); err != nil {
				return hinted(err, "fieldgate upstream show "+args[0])
			}
			if c.output == formatJSON {
				return nil
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "%s is out of %s\n", args[1], args[0])
			return err
		},
	}
}

// hasTarget says whether an address of the upstream is registered.
func hasTarget(u *api.Upstream) bool {
	return slices.ContainsFunc(u.Addresses, func(a api.UpstreamAddress) bool { return a.Target != nil })
}

func upstreamState(u *api.Upstream) cell {
	switch {
	case u.Circuit == api.CircuitOpen || u.Circuit == api.CircuitHalfOpen:
		return cell{text: "refusing", colour: red}
	case u.Healthy == 0 && u.Unhealthy > 0:
		return cell{text: "down", colour: red}
	case u.Unhealthy > 0 || u.Problem != "":
		return cell{text: "degraded", colour: yellow}
	case len(u.Gateways) == 0:
		return cell{text: "not used", colour: yellow}
	case u.Healthy == 0:
		return cell{text: "no address", colour: yellow}
	}
	return cell{text: "healthy", colour: green}
}

func circuitCell(state api.CircuitState) cell {
	c := cell{text: dash(string(state))}
	if state == api.CircuitOpen || state == api.CircuitHalfOpen {
		c.colour = red
	}
	return c
}

func latencyText(milliseconds float64) string {
	if milliseconds == 0 {
		return "-"
	}
	return micros(int64(milliseconds * 1000))
}

func printUpstream(w io.Writer, u *api.Upstream) error {
	t := newTable(w)
	t.add(cells("upstream", u.Name)...)
	t.add(cell{text: "state"}, upstreamState(u))
	t.add(cells("balance", dash(u.Algorithm))...)
	t.add(cells("healthy", fmt.Sprintf("%d of %s", u.Healthy, pluralOf(u.Healthy+u.Unhealthy, "address", "addresses")))...)
	t.add(cells("calls", fmt.Sprintf("%d, %d failed, %d under way", u.Calls, u.Failures, u.InFlight))...)
	for _, line := range loadLines(&u.Load) {
		t.add(cells(line[0], line[1])...)
	}
	if !u.Registered && hasTarget(u) {
		t.add(cells("registered", registrationRemedy)...)
	}
	for _, g := range u.Gateways {
		text := fmt.Sprintf("%d healthy, %d not", g.Healthy, g.Unhealthy)
		if g.Circuit != "" {
			text += ", circuit " + string(g.Circuit)
		}
		if g.Panic {
			text += ", all are used because so few are healthy"
		}
		if g.Load.Limit > 0 {
			text += fmt.Sprintf(", %d of %d calls under way", g.Load.UnderWay, g.Load.Limit)
		}
		if g.Problem != "" {
			text += ": " + g.Problem
		}
		t.add(cells("gateway "+g.Node, text)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "ADDRESS", "GATEWAY", "STATE", "SINCE", "IN FLIGHT", "LATENCY", "FAILED", "WEIGHT", "REGISTERED", "WHY")
	for i := range u.Addresses {
		a := &u.Addresses[i]
		registered := "-"
		if a.Target != nil {
			registered = "until " + shortTime(a.Target.ExpiresAt)
		}
		if len(a.States) == 0 {
			t.add(cells(a.Address, "-", "not used", "-", "-", "-", "-", fmt.Sprint(a.Weight), registered)...)
		}
		for _, s := range a.States {
			state := cell{text: "healthy", colour: green}
			if !s.Healthy {
				state = cell{text: "unhealthy", colour: red}
			}
			t.add(cell{text: a.Address}, cell{text: s.Node}, state, cell{text: shortTime(s.Since)}, cell{text: fmt.Sprint(s.InFlight)}, cell{text: latencyText(s.Latency)},
				cell{text: fmt.Sprintf("%d of %d", s.Failures, s.Calls)}, cell{text: fmt.Sprint(a.Weight)}, cell{text: registered}, cell{text: s.Why})
		}
	}
	if err := t.flush(); err != nil || u.NotShown == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "%d more addresses are not shown.\n", u.NotShown)
	return err
}

// loadLines are what was done besides plain calls, and what was refused; what never happened is left out.
func loadLines(l *api.UpstreamLoad) (lines [][2]string) {
	add := func(name, format string, figures ...int64) {
		args, happened := make([]any, len(figures)), false
		for i, n := range figures {
			args[i], happened = n, happened || n > 0
		}
		if happened {
			lines = append(lines, [2]string{name, fmt.Sprintf(format, args...)})
		}
	}
	if l.Limit > 0 {
		add("limit", "%d calls under way, %d are", l.Limit, l.UnderWay)
	}
	add("refused", "%d critical, %d normal, %d background calls beyond the limit", l.Shed.Critical, l.Shed.Normal, l.Shed.Background)
	add("retries", "%d, %d left out beyond the budget", l.Retries, l.RetriesRefused)
	add("hedges", "%d, %d answered first", l.Hedges, l.HedgesWon)
	add("mirrors", "%d under way, %d left out", l.Mirroring, l.MirrorsDropped)
	return lines
}

func printTarget(w io.Writer, r *api.Target) error {
	t := newTable(w)
	t.add(cells("upstream", r.Upstream)...)
	t.add(cells("address", r.Address)...)
	t.add(cells("weight", fmt.Sprint(r.Weight))...)
	t.add(cells("zone", dash(r.Zone))...)
	t.add(cells("priority", fmt.Sprint(r.Priority))...)
	t.add(cells("expires", shortTime(r.ExpiresAt))...)
	return t.flush()
}

func pluralOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// certificateText is a certificate in one line of status.
func certificateText(c *api.Certificate) string {
	text := strings.Join(c.Names, ", ")
	if text == "" {
		text = c.File
	}
	if !c.NotAfter.IsZero() {
		text += ", " + rollout.Expiry(c.NotAfter, time.Now()) + ", on " + shortTime(c.NotAfter)
	}
	return text + " (" + string(c.Source) + ")"
}
