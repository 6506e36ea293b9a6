package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"syscall"
)

// followEnvironment reads the environment file again whenever the process is sent SIGHUP, until the context ends.
func (n *node) followEnvironment(ctx context.Context, read func() (*environment, error), level *slog.LevelVar, log *slog.Logger) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGHUP)
	defer signal.Stop(told)
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
			n.reload(read, level, log)
		}
	}
}

// reload puts what the file says now into force, as a whole or not at all.
func (n *node) reload(read func() (*environment, error), level *slog.LevelVar, log *slog.Logger) {
	e, err := read()
	if err == nil && n.gateway != nil {
		err = n.gateway.Reload(e.gatewaySettings())
	}
	if err != nil {
		log.Error("the environment file has an error: everything stays as it is", "error", err)
		return
	}
	level.Set(e.Log.Level)
	if n.secrets.Reload(); n.secrets.Problem() != "" {
		log.Error("the secrets key stays as it was", "problem", n.secrets.Problem())
	}
	log.Info("the environment file was read again")
	if settings := n.environment.fixed(e); len(settings) > 0 {
		log.Warn("some settings have changed that count after a restart only", "settings", settings)
	}
}

// fixed are the settings that differ and cannot change while the node runs.
func (e *environment) fixed(other *environment) (settings []string) {
	for _, s := range []struct {
		name      string
		was, will any
	}{
		{"node", e.Node, other.Node}, {"role", e.Role, other.Role}, {"data", e.Data, other.Data}, {"store", e.Store, other.Store},
		{"bus", e.Bus, other.Bus}, {"listen", e.Listen, other.Listen}, {"mqtt", e.MQTT.lasting(), other.MQTT.lasting()}, {"coap", e.CoAP.lasting(), other.CoAP.lasting()}, {"admin-tls", e.AdminTLS, other.AdminTLS},
		{"admin-hosts", e.AdminHosts, other.AdminHosts}, {"admin-socket", e.AdminSocket, other.AdminSocket},
		{"secrets-key-file", e.SecretsKeyFile, other.SecretsKeyFile},
	} {
		if !reflect.DeepEqual(s.was, s.will) {
			settings = append(settings, s.name)
		}
	}
	return settings
}
