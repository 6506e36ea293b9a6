//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type bench struct {
	binary, folder string
	rounds         int
	duration       time.Duration
	cases          string
	processes      []*exec.Cmd
	gateways       int // that were started for CoAP
}

// start runs a server in the background until stopAll.
func (b *bench) start(name string, args ...string) (*exec.Cmd, error) {
	log, err := os.Create(filepath.Join(b.folder, filepath.Base(name)+strconv.Itoa(len(b.processes))+".log"))
	if err != nil {
		return nil, err
	}
	command := exec.Command(name, args...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return nil, err
	}
	b.processes = append(b.processes, command)
	return command, nil
}

func (b *bench) stopAll() {
	for _, process := range b.processes {
		process.Process.Signal(syscall.SIGTERM)
	}
	for _, process := range b.processes {
		process.Wait()
	}
	b.processes = nil
}

func freePort() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// awaitPort waits until somebody listens.
func awaitPort(address string) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
			return nil
		}
	}
	return fmt.Errorf("nobody listens on %s", address)
}

// cpu is the CPU time that a process and its children have used (proc(5), fields 14 and 15 of stat, in ticks of 10 ms).
func cpu(pid int) (time.Duration, error) {
	var ticks int
	for _, pid := range append(children(pid), pid) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+2:])
		for _, field := range fields[11:13] {
			n, err := strconv.Atoi(string(field))
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// ownCPU is the CPU time that this process has used.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func children(pid int) (pids []int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	for _, field := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(field); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// resident is the memory of a process and its children in megabytes.
func resident(pid int) (megabytes float64) {
	for _, pid := range append(children(pid), pid) {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, rest, ok := strings.Cut(string(status), "VmRSS:"); ok {
			kilobytes, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			megabytes += kilobytes / 1000
		}
	}
	return megabytes
}

// fieldgate runs a client command on an installation.
func (b *bench) fieldgate(config string, args ...string) (string, error) {
	output, err := exec.Command(b.binary, append(args, "--config", config)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("fieldgate %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output)), nil
}

// node is an installation that runs.
type node struct {
	config, http, https, mqtt, mqtts, coap, coaps, admin, token string
	process                                                     *exec.Cmd
}

// node prepares and starts an installation with one upstream of one address.
func (b *bench) node(name, upstream string) (*node, error) {
	return b.nodeWith(name, "addresses: ['http://"+upstream+"']")
}

// nodeWith prepares and starts an installation with one upstream that has these settings.
func (b *bench) nodeWith(name, upstream string) (*node, error) {
	folder := filepath.Join(b.folder, name)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	n := &node{config: filepath.Join(folder, "fieldgate.yaml"), http: freePort(), https: freePort(), mqtt: freePort(), mqtts: freePort(), coap: freePort(), coaps: freePort(), admin: freePort()}
	if _, err := b.fieldgate(n.config, "init", "--data", filepath.Join(folder, "data")); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("node: bench\ndata: data\nlisten: {http: '%s', https: '%s', mqtt: '%s', mqtts: '%s', coap: '%s', coaps: '%s', admin: '%s'}\ntls: {internal-ca: {names: [localhost]}}\nupstreams: {origin: {%s}}\n", n.http, n.https, n.mqtt, n.mqtts, n.coap, n.coaps, n.admin, upstream)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(folder, "data", "operator.token"))
	if err != nil {
		return nil, err
	}
	n.token = strings.TrimSpace(string(token))
	return n, b.serve(n)
}

func (b *bench) serve(n *node) (err error) {
	if n.process, err = b.start(b.binary, "serve", "--config", n.config); err != nil {
		return err
	}
	for _, address := range []string{n.http, n.mqtt, n.admin} {
		if err := awaitPort(address); err != nil {
			return err
		}
	}
	return nil
}

// plainDevice is a line for the import of a device.
func plainDevice(number int) string { return fmt.Sprintf("{\"id\":%q}\n", mqttDevice(number)) }

// importFleet adds so many devices, each as its line says, and gives their tokens by number.
func (b *bench) importFleet(n *node, name string, count int, line func(number int) string) (tokens []string, err error) {
	var fleet strings.Builder
	for i := range count {
		fleet.WriteString(line(i))
	}
	devices := filepath.Join(b.folder, name+".ndjson")
	if err := os.WriteFile(devices, []byte(fleet.String()), 0o600); err != nil {
		return nil, err
	}
	if _, err := b.fieldgate(n.config, "device", "import", devices, "--tokens", devices+".tokens"); err != nil {
		return nil, err
	}
	file, err := os.Open(devices + ".tokens")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var line struct{ Token string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, err
		}
		tokens = append(tokens, line.Token)
	}
	if len(tokens) != count {
		return nil, fmt.Errorf("%d tokens were printed", len(tokens))
	}
	return tokens, nil
}
