//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// control measures publish to enforced, revocation, start with 1,000 operations, idle memory and the binary's size.
func (b *bench) control() error {
	n, err := b.node("control", "127.0.0.1:9")
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Second) // idle
	idle := resident(n.process.Process.Pid)

	var enforced []time.Duration
	for version := range 100 {
		document := fmt.Sprintf("openapi: 3.1.0\ninfo: {title: Growing, version: 1.0.%d}\npaths:\n  /growing/%[1]d:\n    get: {operationId: get, security: [], responses: {'204': {description: ok}}}\n", version)
		began := time.Now()
		if err := n.publish(document); err != nil {
			return err
		}
		if err := n.await(fmt.Sprint("/growing/", version), 204); err != nil {
			return err
		}
		enforced = append(enforced, time.Since(began))
	}
	slices.Sort(enforced)

	revoked, err := b.revocations(n)
	if err != nil {
		return err
	}

	var large strings.Builder
	large.WriteString("openapi: 3.1.0\ninfo: {title: Large, version: 1.0.0}\npaths:\n")
	for i := range 1000 {
		fmt.Fprintf(&large, "  /large/%d/{id}:\n    post: {operationId: o%[1]d, security: [], parameters: [{name: id, in: path, required: true, schema: {type: string}}], requestBody: {content: {application/json: {schema: {type: object, additionalProperties: false, required: [n], properties: {n: {type: integer, minimum: 0}, s%[1]d: {type: string, maxLength: 20, pattern: '^[a-z]+$'}}}}}}, responses: {'204': {description: ok}}}\n", i)
	}
	if err := n.publish(large.String()); err != nil {
		return err
	}
	if err := n.await("/large/999/x", 405); err != nil { // GET: the path is there, with another method
		return err
	}
	start, err := b.restart(n, "/large/999/x", 405)
	if err != nil {
		return err
	}
	size, err := os.Stat(b.binary)
	if err != nil {
		return err
	}
	fmt.Println("| control plane and start | |\n|---|---|")
	fmt.Printf("| publish → enforced, 100 publishes: median, p99, worst | %v, %v, %v |\n", enforced[50].Round(time.Millisecond), enforced[98].Round(time.Millisecond), enforced[99].Round(time.Millisecond))
	fmt.Printf("| revoke → refused, 50 devices: median, worst | %v, %v |\n", revoked[25].Round(time.Millisecond), revoked[49].Round(time.Millisecond))
	fmt.Printf("| start → first request answered, 1,000 operations | %v |\n", start.Round(time.Millisecond))
	fmt.Printf("| idle RSS of the whole product | %.0f MB |\n| binary | %.0f MB |\n", idle, float64(size.Size())/1e6)
	return nil
}

// restart ends the process and measures from its new start until a path is answered with the status.
func (b *bench) restart(n *node, path string, status int) (time.Duration, error) {
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	n.process.Wait()
	began := time.Now()
	var err error
	if n.process, err = b.start(b.binary, "serve", "--config", n.config); err != nil {
		return 0, err
	}
	if err := n.await(path, status); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// revocations measures the time from the decision until the device's token is refused.
func (b *bench) revocations(n *node) (times []time.Duration, err error) {
	if err := n.publish("openapi: 3.1.0\ninfo: {title: Revoked, version: 1.0.0}\ncomponents: {securitySchemes: {token: {type: http, scheme: bearer}}}\npaths:\n  /revoked:\n    get: {operationId: get, security: [{token: []}], responses: {'204': {description: ok}}}\n"); err != nil {
		return nil, err
	}
	for i := range 50 {
		id := fmt.Sprint("r", i)
		token, err := b.fieldgate(n.config, "device", "add", id, "--quiet")
		if err != nil {
			return nil, err
		}
		if err := n.awaitAs(token, "/revoked", 204); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := n.decide("/api/v1/devices/" + id + "/revoke"); err != nil {
			return nil, err
		}
		if err := n.awaitAs(token, "/revoked", 401); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times, nil
}

func (n *node) decide(path string) error {
	request, err := http.NewRequest("POST", "http://"+n.admin+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+n.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	return nil
}

func (n *node) publish(document string) error {
	return n.post("/api/v1/apis?name=bench.yaml", "application/yaml", []byte(document))
}

// post makes a decision with a body.
func (n *node) post(path, contentType string, body []byte) error {
	request, err := http.NewRequest("POST", "http://"+n.admin+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+n.token)
	request.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		var text bytes.Buffer
		text.ReadFrom(response.Body)
		return fmt.Errorf("%s: %s %s", path, response.Status, &text)
	}
	return nil
}

// await asks until the gateway answers with the status.
func (n *node) await(path string, status int) error { return n.awaitAs("", path, status) }

// awaitAs is await with a credential.
func (n *node) awaitAs(token, path string, status int) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		request, err := http.NewRequest("GET", "http://"+n.http+path, nil)
		if err != nil {
			return err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			continue
		}
		response.Body.Close()
		if response.StatusCode == status {
			return nil
		}
	}
	return fmt.Errorf("%s was not answered with %d", path, status)
}
