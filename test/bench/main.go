//go:build linux

// Command bench measures the built binary as docs/measurements.md reports it: HTTP beside nginx, HAProxy and Caddy in the same run, the time from
// publish to enforced, start with 1,000 operations, memory and size. It prints Markdown.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	if address := os.Getenv(originVariable); address != "" {
		log.Fatal(webSocketOrigin(address))
	}
	if address := os.Getenv(goCoapVariable); address != "" {
		log.Fatal(goCoapServer(address))
	}
	b := &bench{}
	parts := []struct {
		name string
		run  func() error
	}{{"http", b.http}, {"latency", b.latency}, {"http2", b.http2}, {"routes", b.routes}, {"reload", b.reload}, {"control", b.control}, {"balance", b.balance}, {"websockets", b.websockets}, {"mqtt", b.mqtt}, {"mqtt-idle", b.mqttIdle}, {"coap", b.coap}}
	var names []string
	for _, part := range parts {
		names = append(names, part.name)
	}
	flag.StringVar(&b.binary, "binary", "bin/fieldgate", "the built command")
	flag.IntVar(&b.rounds, "rounds", 3, "how often each candidate is measured, in turn")
	flag.DurationVar(&b.duration, "duration", 3*time.Second, "of each measurement")
	flag.StringVar(&b.cases, "cases", "", "of MQTT and CoAP, for example qos0,paced or get64,oneflat; empty: all")
	only := flag.String("only", strings.Join(names, ","), "the parts to run")
	flag.Parse()
	var err error
	if b.folder, err = os.MkdirTemp("", "fieldgate-bench-"); err != nil {
		log.Fatal(err)
	}
	for _, part := range parts {
		if !strings.Contains(","+*only+",", ","+part.name+",") {
			continue
		}
		err = part.run()
		b.stopAll()
		if err != nil {
			err = fmt.Errorf("%s: %w", part.name, err)
			break
		}
		fmt.Println()
	}
	os.RemoveAll(b.folder)
	if err != nil {
		log.Fatal(err)
	}
}
