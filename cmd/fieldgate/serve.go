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
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane and a gateway in one process",
		Long: `Run the control plane and a gateway in one process, on embedded engines.
It logs to standard error: JSON, or text on a terminal. Ctrl-C or SIGTERM ends it in good order, a second one at once.`,
		Example: "  fieldgate serve\n  fieldgate serve --config /etc/fieldgate.yaml",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			e, err := readEnvironment(c.environmentPath())
			if err != nil {
				return err
			}
			log := newLogger(command.ErrOrStderr(), e.Log.Level)
			ctx := command.Context()
			n, err := openNode(ctx, e, log)
			if err != nil {
				return err
			}
			return runNode(ctx, n, log, func(status *api.Status) {
				attributes := []any{"version", status.Version, "node", status.Node}
				for _, l := range status.Listeners {
					attributes = append(attributes, l.Name, l.Address)
				}
				log.Info("ready", attributes...)
				for _, w := range status.Warnings {
					log.Warn(w.Message, "code", w.Code, "api", w.Api, "remedy", w.Remedy)
				}
			})
		},
	}
}

func newLogger(w io.Writer, level slog.Level) *slog.Logger {
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

func ownStatus(ctx context.Context, n *node) (*api.Status, error) {
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
