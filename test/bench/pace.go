//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// pace sends requests at a constant rate, whatever the answers do, on connections that take turns; rate 0 sends each as soon as the
// answer before has come. It gives the latencies in order. A request that could not be sent in time, because the answer before had
// not come on its connection, counts from when it should have been sent: a server that stalls does not hide what it kept
// waiting. What the generator itself was late does not count.
func pace(address, request string, connections int, rate float64, duration time.Duration) ([]time.Duration, error) {
	interval := time.Duration(0)
	if rate > 0 {
		interval = time.Duration(float64(connections) / rate * float64(time.Second))
	}
	latencies, errs := make([][]time.Duration, connections), make([]error, connections)
	began := time.Now()
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			first := began.Add(interval * time.Duration(i) / time.Duration(connections))
			latencies[i], errs[i] = paceOne(address, []byte(request), first, interval, began.Add(duration))
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	list := slices.Concat(latencies...)
	if len(list) == 0 {
		return nil, fmt.Errorf("no request was sent to %s", address)
	}
	slices.Sort(list)
	return list, nil
}

func paceOne(address string, request []byte, due time.Time, interval time.Duration, end time.Time) (latencies []time.Duration, err error) {
	link, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer link.Close()
	reader := bufio.NewReader(link)
	for ; due.Before(end); due = due.Add(interval) {
		sent := time.Now()
		if interval == 0 {
			if due = sent; !due.Before(end) {
				break
			}
		}
		if early := due.Sub(sent); early > 0 {
			time.Sleep(early)
			sent = time.Now()
		} else {
			sent = due
		}
		if err := link.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return nil, err
		}
		if _, err := link.Write(request); err != nil {
			return nil, err
		}
		if err := readAnswer(reader); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(sent))
	}
	return latencies, nil
}

// readAnswer reads one answer of known length, which must have the status 200.
func readAnswer(reader *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimSpace(line)
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answer: %s", line)
		}
		if len(line) == 0 {
			_, err := reader.Discard(length)
			return err
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
}

// share is the latency that a share of a sorted list stays below.
func share(list []time.Duration, of float64) time.Duration {
	return list[min(int(of*float64(len(list))), len(list)-1)]
}
