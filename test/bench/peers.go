//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// answer is what the origin says: 201 bytes.
var answer = `{"answer":"` + strings.Repeat("0", 188) + `"}`

// nginxConfig is for both, the origin that all candidates forward to, and nginx as a proxy.
const nginxConfig = `worker_processes %[1]d; daemon off; error_log %[2]s/nginx-%[3]s.err; pid %[2]s/nginx-%[3]s.pid;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path %[2]s/body-%[3]s; proxy_temp_path %[2]s/proxy-%[3]s; fastcgi_temp_path %[2]s/f-%[3]s; uwsgi_temp_path %[2]s/u-%[3]s; scgi_temp_path %[2]s/s-%[3]s;
  %[4]s
}
`

const nginxProxy = `upstream origin { server %s; keepalive 256; keepalive_requests 100000000; }
  server { listen %s; location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; } }`

const haproxyConfig = `global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend bench
  bind %s
  default_backend origin
backend origin
  server origin %s
`

const caddyConfig = `{
  admin off
  auto_https off
}
http://%s {
  reverse_proxy %s {
    transport http {
      keepalive_idle_conns_per_host 256
    }
  }
}
`

// server is a process that listens.
type server struct {
	name, address string
	pid           int
}

// origin starts what all candidates forward to: nginx with one worker.
func (b *bench) origin() (address string, err error) {
	address = freePort()
	_, err = b.nginx("origin", address, 1, fmt.Sprintf(`server { listen %s; location / { default_type application/json; return 200 '%s'; } }`, address, answer))
	return address, err
}

// nginxProxy starts nginx as a plain proxy with two workers.
func (b *bench) nginxProxy(origin string) (server, error) {
	address := freePort()
	return b.nginx("nginx", address, 2, fmt.Sprintf(nginxProxy, origin, address))
}

func (b *bench) nginx(name, address string, workers int, http string) (server, error) {
	return b.peer(name, "nginx", address, fmt.Sprintf(nginxConfig, workers, b.folder, name, http), "-p", b.folder, "-c")
}

// peer starts a server with a configuration, whose file follows the arguments.
func (b *bench) peer(name, command, address, config string, arguments ...string) (server, error) {
	file := filepath.Join(b.folder, name+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return server{}, err
	}
	path, err := exec.LookPath(command)
	if err != nil {
		path = "/usr/sbin/" + command // which PATH may lack
	}
	process, err := b.start(path, append(arguments, file)...)
	if err != nil {
		return server{}, err
	}
	if err := awaitPort(address); err != nil {
		log, _ := os.ReadFile(process.Stdout.(*os.File).Name()) // says why
		return server{}, fmt.Errorf("%s: %w\n%s", command, err, log)
	}
	return server{name, address, process.Process.Pid}, nil
}

// peers starts nginx, HAProxy and Caddy.
func (b *bench) peers(origin string) (list []server, err error) {
	nginx, err := b.nginxProxy(origin)
	if err != nil {
		return nil, err
	}
	address := freePort()
	haproxy, err := b.peer("HAProxy", "haproxy", address, fmt.Sprintf(haproxyConfig, address, origin), "-f")
	if err != nil {
		return nil, err
	}
	address = freePort()
	caddy, err := b.peer("Caddy", "caddy", address, fmt.Sprintf(caddyConfig, address, origin), "run", "--adapter", "caddyfile", "--config")
	return []server{nginx, haproxy, caddy}, err
}
