// Command bench measures the built binary as docs/measurements.md reports it: CPU time per HTTP request beside nginx in the same run, the time from
// publish to enforced, start with 1,000 operations, memory and size. It prints Markdown.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"time"
)

func main() {
	log.SetFlags(0)
	binary := flag.String("binary", "bin/fieldgate", "the built command")
	rounds := flag.Int("rounds", 2, "how often each candidate is measured, in turn")
	duration := flag.Duration("duration", 8*time.Second, "of each measurement")
	only := flag.String("only", "", "requests or control; empty: both")
	flag.Parse()
	folder, err := os.MkdirTemp("", "fieldgate-bench-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	b := &bench{binary: *binary, folder: folder, rounds: *rounds, duration: *duration}
	defer b.stopAll()
	for _, part := range []struct {
		name string
		run  func() error
	}{{"requests", b.requests}, {"control", b.control}} {
		if *only != "" && *only != part.name {
			continue
		}
		if err := part.run(); err != nil {
			b.stopAll()
			os.RemoveAll(folder)
			log.Fatal(err)
		}
		fmt.Println()
	}
}
