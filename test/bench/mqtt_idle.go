//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	mqttIdleFor  = 10 * time.Second // in which the idle CPU time is taken
	mqttFrom     = 2_000            // connections from one loopback address
	mqttSpare    = 500              // files that a broker needs besides
	mqttFirst    = 200              // connections after which what is needed once is there
	mqttWarmly   = 110              // subscriptions of each of them: Fieldgate shows the newest 20,000 exchanges
	mqttSecurely = 5_000
)

// mqttIdle measures what connections cost that say nothing.
func (b *bench) mqttIdle() error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil { // children have it, too
		return err
	}
	count := min(mqttFleet, int(files.Cur)-mqttSpare)
	fmt.Println("| idle MQTT connections | broker | open | RSS each, bytes | CPU µs to connect | CPU of a core while idle |\n|---|---|---|---|---|---|")
	for _, kind := range []struct {
		name, title        string
		subscribed, secure bool
	}{{"idle", "plain", false, false}, {"subscribed", "with one subscription", true, false}, {"tls", "over TLS", false, true}} {
		if !b.wanted(kind.name) {
			continue
		}
		for i, start := range []func(string) (*mqttBroker, error){
			func(name string) (*mqttBroker, error) { return b.mosquitto("mosquitto-"+name, "") }, b.mqttGateway} {
			broker, err := start(fmt.Sprint(kind.name, i))
			if err != nil {
				return err
			}
			address, number := broker.address, count
			if kind.secure {
				address, number = broker.tls, min(count, mqttSecurely)
			}
			broker.name = []string{"mosquitto", "Fieldgate"}[i]
			if err := b.mqttHold(kind.title, broker, address, number, kind.subscribed, kind.secure); err != nil {
				return fmt.Errorf("%s, %s: %w", kind.title, broker.name, err)
			}
			b.stopAll()
		}
	}
	return nil
}

// mqttHold opens connections, keeps them for a while, and prints what they cost.
func (b *bench) mqttHold(title string, broker *mqttBroker, address string, count int, subscribed, secure bool) error {
	var links []mqttLink
	defer func() {
		for _, link := range links {
			link.Close()
		}
	}()
	open := func(from, to int) error {
		for i := from; i < to; i++ {
			link, err := openMQTT(address, net.IPv4(127, 0, 1, byte(1+i/mqttFrom)), secure)
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			links = append(links, link)
			if err := askMQTT(link, connectPacket(broker.device(i)), 0x20, 0); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			if !subscribed {
				continue
			}
			if err := subscribeMQTT(link, broker.device(i)); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
		}
		return nil
	}
	if err := open(0, mqttFirst); err != nil {
		return err
	}
	for i, link := range links {
		for range mqttWarmly {
			if err := subscribeMQTT(link, broker.device(i)); err != nil {
				return err
			}
		}
	}
	time.Sleep(settleIdle + mqttIdleFor) // as long as below
	memory := residentBytes(broker.pid)
	began, err := cpu(broker.pid)
	if err != nil {
		return err
	}
	if err := open(mqttFirst, count); err != nil {
		return err
	}
	connected, err := cpu(broker.pid)
	if err != nil {
		return err
	}
	time.Sleep(settleIdle)
	idle, err := cpu(broker.pid)
	if err != nil {
		return err
	}
	time.Sleep(mqttIdleFor)
	after, err := cpu(broker.pid)
	if err != nil {
		return err
	}
	more := float64(count - mqttFirst)
	fmt.Printf("| %s | %s | %d | %.0f | %.0f | %.1f %% |\n", title, broker.name, count, float64(residentBytes(broker.pid)-memory)/more,
		float64((connected-began).Microseconds())/more, 100*(after-idle).Seconds()/mqttIdleFor.Seconds())
	return nil
}

// mqttLink is an idle connection: a bare descriptor, or TLS.
type mqttLink interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	Close() error
}

type descriptor int

func (d descriptor) Read(p []byte) (int, error) {
	return again(func() (int, error) { return syscall.Read(int(d), p) })
}
func (d descriptor) Write(p []byte) (int, error) {
	return again(func() (int, error) { return syscall.Write(int(d), p) })
}
func (d descriptor) Close() error { return syscall.Close(int(d)) }

// again repeats a system call that a signal has interrupted: those with a time limit are not taken up again (signal(7)).
func again(call func() (int, error)) (n int, err error) {
	for n, err = call(); err == syscall.EINTR; n, err = call() {
	}
	return n, err
}

func openMQTT(address string, local net.IP, secure bool) (mqttLink, error) {
	if !secure {
		fd, err := dialMQTT(address, local)
		return descriptor(fd), err
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: local}, Timeout: mqttPatience}
	link, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	link.SetDeadline(time.Now().Add(mqttPatience))
	return tls.Client(link, &tls.Config{InsecureSkipVerify: true}), nil // whose certificate it is says nothing about memory
}

// subscribeMQTT subscribes to what nobody publishes.
func subscribeMQTT(link mqttLink, id mqttIdentity) error {
	return askMQTT(link, subscribePacket("bench/"+id.client+"/commands", 1), 0x90, 1)
}

// askMQTT writes a CONNECT or SUBSCRIBE, and reads the CONNACK or SUBACK (MQTT 3.1.1 §3.2, §3.9), which must end with this code.
func askMQTT(link mqttLink, packet []byte, kind, code byte) error {
	length := 4
	if kind == 0x90 {
		length = 5
	}
	if _, err := link.Write(packet); err != nil {
		return err
	}
	answer := make([]byte, length)
	for got := 0; got < length; {
		n, err := link.Read(answer[got:])
		if err == nil && n == 0 {
			err = errors.New("the broker closed the connection")
		}
		if err != nil {
			return err
		}
		got += n
	}
	if answer[0] != kind || answer[length-1] != code {
		return fmt.Errorf("answer %x", answer)
	}
	return nil
}

// residentBytes is the memory of a process.
func residentBytes(pid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kilobytes int
	fmt.Sscan(rest, &kilobytes)
	return kilobytes << 10
}
