package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/api"
)

// shutdownLimit is how long exchanges under way may take to finish once the node was told to stop.
const shutdownLimit = 15 * time.Second

func newServe(c *cli) *cobra.Command {
	var overrides environmentOverrides
	command := &cobra.Command{
		Use:   "serve",
		Short: "Run a node: the control plane and a gateway, or one of them",
		Long: `Run a node: the control plane and a gateway in one process on embedded engines, or one of the two on a PostgreSQL database
and a NATS cluster that it shares with other nodes. The flags stand for the settings of the environment file.
It logs to standard error: JSON, or text on a terminal. Ctrl-C or SIGTERM ends it in good order, a second one at once. SIGHUP makes it
read the environment file and the certificates again.`,
		Example: `  fieldgate serve
  fieldgate serve --role control --store postgres://fieldgate@127.0.0.1/fieldgate --bus nats://127.0.0.1:4222
  fieldgate serve --role gateway --bus nats://127.0.0.1:4222`,
		Args: arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			read := func() (*environment, error) { return readEnvironment(c.environmentPath(), overrides.apply) }
			e, err := read()
			if err != nil {
				return err
			}
			level := new(slog.LevelVar)
			level.Set(e.Log.Level)
			log := newLogger(command.ErrOrStderr(), level)
			ctx := command.Context()
			n, err := openNode(ctx, e, log)
			if err != nil {
				return err
			}
			go n.followEnvironment(ctx, read, level, log)
			return runNode(ctx, n, log, func(status *api.Status) {
				attributes := []any{"version", programVersion(), "node", e.Node, "role", e.Role}
				for _, l := range n.listeners() {
					attributes = append(attributes, l.Name, l.Address)
				}
				log.Info("ready", attributes...)
				if status == nil {
					return
				}
				n.tellSignIn(command.ErrOrStderr(), log)
				for _, w := range status.Warnings {
					log.Warn(w.Message, "code", w.Code, "api", w.Api, "remedy", w.Remedy)
				}
			})
		},
	}
	flags := command.Flags()
	flags.StringVar((*string)(&overrides.role), "role", "", "what to run: all, control or gateway")
	flags.StringVar(&overrides.store, "store", "", "database: postgres://USER@HOST:5432/NAME, or a SQLite file")
	flags.StringVar(&overrides.bus, "bus", "", "NATS servers: nats://HOST:4222, several separated by commas")
	return command
}

// environmentOverrides are flags that stand for settings.
type environmentOverrides struct {
	role       role
	store, bus string
}

func (o *environmentOverrides) apply(e *environment) {
	if o.role != "" {
		e.Role = o.role
	}
	if o.store != "" {
		e.Store.URL = o.store
	}
	if o.bus != "" {
		e.Bus.URL = o.bus
	}
}

// tellSignIn says how to sign in for the first time. Only a person at a terminal is shown the token: logs are kept and sent
// elsewhere.
func (n *node) tellSignIn(w io.Writer, log *slog.Logger) {
	link := n.signInLink()
	switch {
	case link == "":
	case isTerminal(w):
		fmt.Fprintf(w, "\nOpen the console, once within 15 minutes, and make yourself its owner:\n\n  %s\n\n", link)
	default:
		log.Info("nobody has claimed this installation yet", "console", n.consoleAddress(), "signInTokenFile", n.control.SignInTokenPath())
	}
}

func newLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// runNode serves until the context ends, and gives up on what does not end within shutdownLimit. ready is called once the
// node answers.
func runNode(ctx context.Context, n *node, log *slog.Logger, ready func(*api.Status)) error {
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx) }()
	status, err := ownStatus(ctx, n)
	switch {
	case err == nil:
		ready(status)
		tellSystemd(log, "READY=1")
	case ctx.Err() == nil:
		log.Error("the admin API does not answer", "error", err)
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping")
	tellSystemd(log, "STOPPING=1")
	select {
	case err := <-ended:
		return err
	case <-time.After(shutdownLimit):
		return fmt.Errorf("not everything ended within %s; what was acknowledged is safe", shutdownLimit)
	}
}

// ownStatus is what the control plane says once it answers; nil where there is none.
func ownStatus(ctx context.Context, n *node) (*api.Status, error) {
	if n.control == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, shutdownLimit)
	defer cancel()
	admin, err := n.admin()
	if err != nil {
		return nil, err
	}
	answer, err := admin.GetStatusWithResponse(ctx)
	if err != nil {
		return nil, err
	}
	return answer.JSON200, nil
}

// tellSystemd tells a service manager that started us with Type=notify (sd_notify(3)).
func tellSystemd(log *slog.Logger, state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.Dial("unixgram", path)
	if err == nil {
		_, err = conn.Write([]byte(state))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		log.Warn("the service manager was not told", "state", state, "error", err)
	}
}
