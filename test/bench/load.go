//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// settle is time for what a server does behind a request: its Record is on the way to the rollups.
const settle = time.Second

// load is what one measurement found.
type load struct {
	micros   float64 // CPU time of the server per request
	ratio    float64 // of micros to the yardstick of the same round
	rate     float64 // requests per second
	p50, p99 time.Duration
	memory   float64 // megabytes
}

// script makes a file that tells wrk what to send.
func (b *bench) script(name, text string) (string, error) {
	file := filepath.Join(b.folder, name+".lua")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

var (
	wrkCount   = regexp.MustCompile(`(\d+) requests in`)
	wrkRate    = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkLatency = regexp.MustCompile(`\s(50|99)%\s+([\d.]+(?:us|ms|s))`)
	wrkFailed  = regexp.MustCompile(`Non-2xx or 3xx responses: \d+|Socket errors:.*`)
)

// wrk loads a server with 64 connections.
func (b *bench) wrk(script, url string, pid int) (l load, err error) {
	output, count, err := b.busy(pid, wrkCount, &l, "wrk", "-t", "1", "-c", "64", "-d", b.duration.String(), "--latency", "-s", script, url)
	if err != nil {
		return l, err
	}
	if problem := wrkFailed.Find(output); problem != nil {
		return l, fmt.Errorf("of %.0f requests: %s", count, problem)
	}
	if l.rate, err = found(wrkRate, output); err != nil {
		return l, err
	}
	for _, match := range wrkLatency.FindAllSubmatch(output, -1) {
		d, err := time.ParseDuration(string(match[2]))
		if err != nil {
			return l, err
		}
		if string(match[1]) == "50" {
			l.p50 = d
		} else {
			l.p99 = d
		}
	}
	return l, nil
}

// busy runs a load generator and divides the CPU time that the server used by the requests that it answered.
func (b *bench) busy(pid int, counted *regexp.Regexp, l *load, name string, arguments ...string) (output []byte, count float64, err error) {
	before, err := cpu(pid)
	if err != nil {
		return nil, 0, err
	}
	if output, err = exec.Command(name, arguments...).CombinedOutput(); err != nil {
		return nil, 0, fmt.Errorf("%s: %w: %s", name, err, output)
	}
	time.Sleep(settle)
	after, err := cpu(pid)
	if err != nil {
		return nil, 0, err
	}
	if count, err = found(counted, output); err != nil {
		return nil, 0, err
	}
	l.micros, l.memory = float64((after-before).Microseconds())/count, resident(pid)
	return output, count, nil
}

// found is the number in a generator's output.
func found(pattern *regexp.Regexp, output []byte) (float64, error) {
	match := pattern.FindSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("no %q in: %s", pattern, output)
	}
	n, err := strconv.ParseFloat(string(match[1]), 64)
	if err == nil && n == 0 {
		err = errors.New("nothing was answered")
	}
	return n, err
}

// median is the middle of some numbers, or the mean of the two in the middle.
func median[N ~int64 | ~float64, T any](list []T, of func(T) N) N {
	numbers := make([]N, len(list))
	for i := range list {
		numbers[i] = of(list[i])
	}
	slices.Sort(numbers)
	return (numbers[(len(numbers)-1)/2] + numbers[len(numbers)/2]) / 2
}

func micros(l load) float64 { return l.micros }
func ratio(l load) float64  { return l.ratio }

// milliseconds prints a duration.
func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1000, 'f', 2, 64)
}

func byRatio(a, b load) int { return cmp.Compare(a.ratio, b.ratio) }
