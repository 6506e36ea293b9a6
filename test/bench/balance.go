//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Three services, of which one is ten times slower. Each serves so many requests at once, and lets the others wait.
const (
	balanceAtOnce = 8
	balanceFast   = 5 * time.Millisecond
	balanceSlow   = 50 * time.Millisecond
	balanceRate   = 600 // requests a second: in equal parts more than the slow one can serve
	balanceLinks  = 200 // connections that they come over
)

// worker is one of the services.
type worker struct {
	address string
	takes   time.Duration
	places  chan struct{}
	calls   atomic.Int64
}

func startWorker(takes time.Duration) (*worker, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &worker{address: listener.Addr().String(), takes: takes, places: make(chan struct{}, balanceAtOnce)}
	go http.Serve(listener, w) // until the process ends
	return w, nil
}

func (w *worker) ServeHTTP(answer http.ResponseWriter, _ *http.Request) {
	w.calls.Add(1)
	w.places <- struct{}{}
	time.Sleep(w.takes)
	<-w.places
	answer.Write([]byte("ok"))
}

// balance compares the ways to choose an address where one of three is slow.
func (b *bench) balance() error {
	var workers []*worker
	var addresses []string
	for _, takes := range []time.Duration{balanceFast, balanceFast, balanceSlow} {
		w, err := startWorker(takes)
		if err != nil {
			return err
		}
		workers, addresses = append(workers, w), append(addresses, "'http://"+w.address+"'")
	}
	slow := workers[len(workers)-1]
	fmt.Printf("%d requests a second to three services, each with %d at once: two take %v, one %v.\n\n", balanceRate, balanceAtOnce, balanceFast, balanceSlow)
	fmt.Println("| `balance` | p50 ms | p99 ms | calls to the slow one |\n|---|---|---|---|")
	for _, algorithm := range []string{"round-robin", "least-requests", "two-choices", "peak-ewma", "hash"} {
		settings := "addresses: [" + strings.Join(addresses, ", ") + "], balance: " + algorithm
		if algorithm == "hash" {
			settings += ", hash-by: 'query:device'" // which no request has: any address, within the bound of the load
		}
		n, err := b.nodeWith("balance-"+algorithm, settings)
		if err != nil {
			return err
		}
		if err := n.publish(document("balance", 1)); err != nil {
			return err
		}
		if err := n.await("/balance/0/x", http.StatusOK); err != nil {
			return err
		}
		slowBefore, before := slow.calls.Load(), total(workers)
		latencies, err := pace(n.http, "GET /balance/0/x HTTP/1.1\r\nHost: x\r\n\r\n", balanceLinks, balanceRate, b.duration)
		if err != nil {
			return err
		}
		part := float64(slow.calls.Load()-slowBefore) / float64(total(workers)-before)
		fmt.Printf("| `%s` | %s | **%s** | %.1f %% |\n", algorithm, milliseconds(share(latencies, 0.5)), milliseconds(share(latencies, 0.99)), 100*part)
		b.stopAll()
	}
	return nil
}

func total(workers []*worker) (calls int64) {
	for _, w := range workers {
		calls += w.calls.Load()
	}
	return calls
}
