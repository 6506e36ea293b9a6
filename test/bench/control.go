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
	n.process.Process.Signal(syscall.SIGTERM)
	n.process.Wait()
	began := time.Now()
	if n.process, err = b.start(b.binary, "serve", "--config", n.config); err != nil {
		return err
	}
	if err := n.await("/large/999/x", 405); err != nil {
		return err
	}
	start := time.Since(began)
	size, err := os.Stat(b.binary)
	if err != nil {
		return err
	}
	fmt.Println("| control plane and start | |\n|---|---|")
	fmt.Printf("| publish → enforced, 100 publishes: median, p99, worst | %v, %v, %v |\n", enforced[50].Round(time.Millisecond), enforced[98].Round(time.Millisecond), enforced[99].Round(time.Millisecond))
	fmt.Printf("| start → first request answered, 1,000 operations | %v |\n", start.Round(time.Millisecond))
	fmt.Printf("| idle RSS of the whole product | %.0f MB |\n| binary | %.0f MB |\n", idle, float64(size.Size())/1e6)
	return nil
}

func (n *node) publish(document string) error {
	request, err := http.NewRequest("POST", "http://"+n.admin+"/api/v1/apis?name="+"bench.yaml", bytes.NewReader([]byte(document)))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+n.token)
	request.Header.Set("Content-Type", "application/yaml")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		var text bytes.Buffer
		text.ReadFrom(response.Body)
		return fmt.Errorf("publish: %s %s", response.Status, &text)
	}
	return nil
}

// await asks until the gateway answers with the status.
func (n *node) await(path string, status int) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		response, err := http.Get("http://" + n.http + path)
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
