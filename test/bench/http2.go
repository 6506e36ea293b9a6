//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"time"
)

var (
	h2loadCount  = regexp.MustCompile(`(\d+) succeeded`)
	h2loadRate   = regexp.MustCompile(`([\d.]+) req/s`)
	h2loadFailed = regexp.MustCompile(`[1-9]\d* (?:failed|errored|timeout)`)
)

// http2 compares a request over HTTP/2 in clear text with one over HTTP/1.1, in turn.
func (b *bench) http2() error {
	origin, err := b.origin()
	if err != nil {
		return err
	}
	n, _, err := b.gateway("http2", origin)
	if err != nil {
		return err
	}
	if err := speaksHTTP2(n.http); err != nil {
		fmt.Println("HTTP/2 was not measured:", err)
		return nil
	}
	get, err := b.script("get", "wrk.method = 'GET'\n")
	if err != nil {
		return err
	}
	url, pid := "http://"+n.http+"/plain/x", n.process.Process.Pid
	var one, two []load
	for range b.rounds {
		l, err := b.wrk(get, url, pid)
		if err != nil {
			return err
		}
		one = append(one, l)
		if l, err = b.h2load(url, pid); err != nil {
			return err
		}
		l.ratio = l.micros / one[len(one)-1].micros
		two = append(two, l)
	}
	fmt.Println("| plain GET | CPU µs per request | × HTTP/1.1 in the same round | requests/s |\n|---|---|---|---|")
	fmt.Printf("| HTTP/1.1, 64 connections | %.1f | 1 | %.0f |\n", median(one, micros), median(one, func(l load) float64 { return l.rate }))
	fmt.Printf("| HTTP/2, 8 connections of 32 streams | %.1f | **%.2f** | %.0f |\n", median(two, micros), median(two, ratio), median(two, func(l load) float64 { return l.rate }))
	return nil
}

func (b *bench) h2load(url string, pid int) (l load, err error) {
	seconds := fmt.Sprint(max(int(b.duration.Seconds()), 1))
	output, count, err := b.busy(pid, h2loadCount, &l, "h2load", "-c", "8", "-m", "32", "-t", "1", "-D", seconds, url)
	if err != nil {
		return l, err
	}
	if problem := h2loadFailed.Find(output); problem != nil {
		return l, fmt.Errorf("of %.0f requests: %s", count, problem)
	}
	l.rate, err = found(h2loadRate, output)
	return l, err
}

// speaksHTTP2 sends the preface of RFC 9113 §3.4 and an empty SETTINGS frame, and expects one in return.
func speaksHTTP2(address string) error {
	link, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer link.Close()
	if err := link.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	const settings = 4 // type of frame, RFC 9113 §6.5
	if _, err := io.WriteString(link, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return err
	}
	var head [9]byte
	if _, err := io.ReadFull(link, head[:]); err != nil || head[3] != settings {
		return fmt.Errorf("the preface is not answered with settings: %q, %v", head, err)
	}
	return nil
}
