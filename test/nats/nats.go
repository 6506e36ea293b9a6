// Package nats runs private NATS clusters for tests: real servers, as programs of their own, on the loopback interface.
package nats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fieldgate/test/halt"
	"fieldgate/test/port"
)

const (
	readyTimeout = 60 * time.Second
	pause        = 100 * time.Millisecond
)

// Start runs a cluster of three servers with JetStream until the test ends, and returns its addresses.
func Start(tb testing.TB) (urls string) {
	tb.Helper()
	return New(tb, 3, "").URLs()
}

// Cluster is some servers, numbered from 0. Its methods are for one goroutine at a time.
type Cluster struct {
	tb      testing.TB
	binary  string
	servers []*node
}

type node struct {
	url     string // for clients
	config  string // file
	log     string // file
	process *exec.Cmd
}

// New runs a cluster of that many servers with JetStream until the test ends. more is added to the configuration of each: users,
// accounts. Without users it waits until JetStream answers, otherwise until the servers do.
func New(tb testing.TB, size int, more string) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, binary: binary(tb)}
	folder := tb.TempDir()
	var routes []string
	for range size {
		routes = append(routes, "nats://"+port.Free(tb))
	}
	for i := range size {
		name := fmt.Sprint("n", i)
		address := port.Free(tb)
		n := &node{url: "nats://" + address, config: filepath.Join(folder, name+".conf"), log: filepath.Join(folder, name+".log")}
		text := fmt.Sprintf("server_name: %s\nlisten: %s\nlog_file: %q\n", name, address, n.log) +
			fmt.Sprintf("jetstream { store_dir: %q, max_file_store: 1GB, max_memory_store: 64MB }\n", filepath.Join(folder, name))
		if size > 1 {
			text += fmt.Sprintf("cluster { name: test, listen: %q, routes: [%s] }\n", strings.TrimPrefix(routes[i], "nats://"), strings.Join(routes, ", "))
		}
		if err := os.WriteFile(n.config, []byte(text+more), 0o600); err != nil {
			tb.Fatal(err)
		}
		c.servers = append(c.servers, n)
	}
	tb.Cleanup(c.Stop)
	for i := range c.servers {
		c.Start(i)
	}
	if more == "" {
		c.Ready()
	} else {
		c.answers()
	}
	return c
}

// URLs are the addresses of all servers, separated by commas.
func (c *Cluster) URLs() string {
	var urls []string
	for i := range c.servers {
		urls = append(urls, c.URL(i))
	}
	return strings.Join(urls, ",")
}

// URL is the address of one server.
func (c *Cluster) URL(i int) string { return c.servers[i].url }

// Folder is where a server keeps its streams.
func (c *Cluster) Folder(i int) string { return strings.TrimSuffix(c.servers[i].config, ".conf") }

// Size is how many servers there are, running or not.
func (c *Cluster) Size() int { return len(c.servers) }

// Start runs a server that is not running.
func (c *Cluster) Start(i int) {
	c.tb.Helper()
	n := c.servers[i]
	n.process = exec.Command(c.binary, "-c", n.config)
	if err := n.process.Start(); err != nil {
		c.tb.Fatal(err)
	}
}

// Kill ends a server as a crash does.
func (c *Cluster) Kill(i int) {
	n := c.servers[i]
	if n.process == nil {
		return
	}
	n.process.Process.Signal(syscall.SIGCONT)
	n.process.Process.Kill()
	n.process.Wait()
	n.process = nil
}

// Pause stops a server as a machine that hangs does: its connections stay open. Continue undoes it.
func (c *Cluster) Pause(i int) { halt.Stop(c.tb, c.servers[i].process.Process.Pid) }

// Continue undoes Pause.
func (c *Cluster) Continue(i int) { c.servers[i].process.Process.Signal(syscall.SIGCONT) }

// Stop kills all servers.
func (c *Cluster) Stop() {
	for i := range c.servers {
		c.Kill(i)
	}
}

// Ready waits until JetStream answers.
func (c *Cluster) Ready() {
	c.tb.Helper()
	c.wait("JetStream", func(connection *client.Conn) error {
		streams, err := jetstream.New(connection)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = streams.AccountInfo(ctx)
		return err
	})
	// JetStream answers as soon as there is a leader; streams find servers when it has heard of them.
	if c.running() >= 3 {
		c.wait("three replicas", func(connection *client.Conn) error {
			streams, err := jetstream.New(connection)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if _, err = streams.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "READY", Subjects: []string{"ready"}, Replicas: 3}); err != nil {
				return err
			}
			return streams.DeleteStream(ctx, "READY")
		})
	}
}

func (c *Cluster) running() (n int) {
	for _, s := range c.servers {
		if s.process != nil {
			n++
		}
	}
	return n
}

// answers waits until the running servers take connections, whether or not they let us in.
func (c *Cluster) answers() {
	c.tb.Helper()
	for _, n := range c.servers {
		if n.process == nil {
			continue
		}
		c.until("server", func() error {
			connection, err := client.Connect(n.url)
			if err == nil {
				connection.Close()
			} else if !errors.Is(err, client.ErrNoServers) {
				return nil // it does not let us in
			}
			return err
		})
	}
}

func (c *Cluster) wait(what string, ask func(*client.Conn) error) {
	c.tb.Helper()
	c.until(what, func() error {
		connection, err := client.Connect(c.URLs(), client.Timeout(time.Second))
		if err != nil {
			return err
		}
		defer connection.Close()
		return ask(connection)
	})
}

func (c *Cluster) until(what string, try func() error) {
	c.tb.Helper()
	var err error
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); time.Sleep(pause) {
		if err = try(); err == nil {
			return
		}
	}
	for _, n := range c.servers {
		if log, readErr := os.ReadFile(n.log); readErr == nil {
			c.tb.Logf("%s:\n%s", filepath.Base(n.log), log[max(0, len(log)-4000):])
		}
	}
	c.tb.Fatalf("the NATS cluster is not ready: %s: %v", what, err)
}

var building sync.Mutex

// binary builds the server of this module's go.mod once on each machine.
func binary(tb testing.TB) string {
	tb.Helper()
	building.Lock()
	defer building.Unlock()
	folder, err := os.UserCacheDir()
	if err == nil {
		folder = filepath.Join(folder, "fieldgate-test")
		err = os.MkdirAll(folder, 0o700)
	}
	if err != nil {
		folder = tb.TempDir()
	}
	path := filepath.Join(folder, "nats-server-"+server.VERSION)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	unfinished := fmt.Sprintf("%s.%d", path, os.Getpid()) // other test programs build it at the same time
	build := exec.Command("go", "build", "-o", unfinished, "github.com/nats-io/nats-server/v2")
	if output, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build nats-server: %v\n%s", err, output)
	}
	if err := os.Rename(unfinished, path); err != nil {
		tb.Fatal(err)
	}
	return path
}
