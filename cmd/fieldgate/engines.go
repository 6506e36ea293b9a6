package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// checkEngines makes sure that role, store and bus fit together.
func (e *environment) checkEngines() error {
	switch e.Role {
	case roleAll, roleControl, roleGateway:
	default:
		return fmt.Errorf("role: %q is none: choose all, control or gateway", e.Role)
	}
	if e.Role != roleAll && e.Bus.URL == "" {
		return fmt.Errorf("role %s: this node has to meet others on a bus: set bus.url or --bus, such as nats://127.0.0.1:4222", e.Role)
	}
	if e.Role == roleControl && e.Store.URL == "" {
		return errors.New("role control: control nodes share a database: set store.url or --store, such as postgres://fieldgate@127.0.0.1/fieldgate")
	}
	if (e.AdminTLS.Certificate == "") != (e.AdminTLS.Key == "") {
		return errors.New("admin-tls: certificate and key are needed together")
	}
	if host, _, err := net.SplitHostPort(e.Listen.Admin); err == nil && !loopback(host) && e.AdminTLS.Certificate == "" {
		return fmt.Errorf("listen.admin: %s can be reached by other machines: set admin-tls, or use 127.0.0.1 and an SSH tunnel", e.Listen.Admin)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// storeLocation is what store.Open opens: a file, or the URL of a PostgreSQL database with the password of its file.
func (e *environment) storeLocation() (string, error) {
	if e.Store.URL == "" {
		return filepath.Join(e.Data, databaseName), nil
	}
	if e.Store.PasswordFile == "" || !store.IsPostgres(e.Store.URL) {
		return e.Store.URL, nil
	}
	location, err := url.Parse(e.Store.URL)
	if err != nil {
		return "", errors.New("store.url is no URL")
	}
	password, err := secretFile(e.Store.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("store.password-file: %w", err)
	}
	location.User = url.UserPassword(location.User.Username(), password)
	return location.String(), nil
}

// openBus starts the embedded bus or connects to a cluster.
func (e *environment) openBus(log *slog.Logger) (*bus.Bus, error) {
	if e.Bus.URL == "" {
		return bus.Open(bus.Config{Directory: filepath.Join(e.Data, "bus"), Log: log})
	}
	b := e.Bus
	return bus.Connect(bus.Cluster{URLs: b.URL, Name: e.Node, User: b.User, PasswordFile: b.PasswordFile, TokenFile: b.TokenFile,
		CredentialsFile: b.CredentialsFile, SeedFile: b.SeedFile, CAFile: b.CAFile, Log: log})
}

const databaseName = "fieldgate.db"

// secretFile reads a file with one line that nobody but its owner may read.
func secretFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := ownerOnly(file); err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}
