//go:build linux && (amd64 || arm64)

package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair is a connection under test and its other end.
func pair(t testing.TB) (*Conn, *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	far, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return New(near.(*net.TCPConn)).(*Conn), far.(*net.TCPConn)
}

// What is larger than the sockets hold arrives whole: Write waits for the reader, Read for the writer.
func TestWaits(t *testing.T) {
	near, far := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	back := make(chan error, 1)
	go func() {
		_, err := io.Copy(far, far)
		far.CloseWrite()
		back <- err
	}()
	written := make(chan error, 1)
	go func() {
		n, err := near.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		near.CloseWrite()
		written <- err
	}()
	got, err := io.ReadAll(near) // ends with io.EOF
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes came back, %v", len(got), len(sent), err)
	}
	if err := errors.Join(<-written, <-back); err != nil {
		t.Fatal(err)
	}
}

// Failures are those of package net.
func TestFailures(t *testing.T) {
	buf := make([]byte, 1<<20)
	t.Run("read past a deadline", func(t *testing.T) {
		near, _ := pair(t)
		near.SetReadDeadline(time.Unix(1, 0))
		if _, err := near.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("deadline set while reading", func(t *testing.T) {
		near, _ := pair(t)
		time.AfterFunc(10*time.Millisecond, func() { near.SetReadDeadline(time.Unix(1, 0)) })
		if _, err := near.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("write past a deadline", func(t *testing.T) {
		near, _ := pair(t)
		near.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		var err error
		total := 0
		for n := 0; err == nil; total += n { // nobody reads
			n, err = near.Write(buf)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || total == 0 {
			t.Error(total, err)
		}
	})
	t.Run("closed while reading", func(t *testing.T) {
		near, _ := pair(t)
		time.AfterFunc(10*time.Millisecond, func() { near.Close() })
		if _, err := near.Read(buf); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := near.Write(buf); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	t.Run("reset by the other end", func(t *testing.T) {
		near, far := pair(t)
		far.SetLinger(0)
		far.Close()
		if _, err := near.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		if _, err := near.Write(buf); !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
	})
	t.Run("nothing to do", func(t *testing.T) {
		near, _ := pair(t)
		if n, err := near.Read(nil); n != 0 || err != nil {
			t.Error(n, err)
		}
		if n, err := near.Write(nil); n != 0 || err != nil {
			t.Error(n, err)
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	near, far := pair(t)
	message, buf := []byte("0123456789abcdef"), make([]byte, 64)
	n := testing.AllocsPerRun(1000, func() {
		far.Write(message)
		if n, err := near.Read(buf); n != len(message) || err != nil {
			t.Fatal(n, err)
		}
		if _, err := near.Write(message); err != nil {
			t.Fatal(err)
		}
		far.Read(buf)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Ask writes only to a connection that is open and silent, and returns when there is something to read.
func TestAsk(t *testing.T) {
	const question, answer = "question", "answer"
	listen := func(far *net.TCPConn) chan error {
		heard := make(chan error, 1)
		go func() {
			got := make([]byte, len(question))
			_, err := io.ReadFull(far, got)
			if err == nil && string(got) != question {
				err = errors.New(string(got))
			}
			if err == nil {
				_, err = io.WriteString(far, answer)
			}
			heard <- err
		}()
		return heard
	}
	t.Run("silent", func(t *testing.T) {
		near, far := pair(t)
		for range 1000 {
			heard := listen(far)
			n, quiet, err := near.Ask([]byte(question))
			if n != len(question) || !quiet || err != nil {
				t.Fatalf("%d, %v, %v", n, quiet, err)
			}
			got := make([]byte, 64)
			if n, err := near.Read(got); err != nil || string(got[:n]) != answer {
				t.Fatalf("%q, %v", got[:n], err)
			}
			if err := <-heard; err != nil {
				t.Fatal(err)
			}
		}
	})
	for name, say := range map[string]func(*net.TCPConn) error{
		"said something": func(far *net.TCPConn) error { _, err := io.WriteString(far, "x"); return err },
		"half closed":    func(far *net.TCPConn) error { return far.CloseWrite() },
		"closed":         func(far *net.TCPConn) error { return far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			if err := say(far); err != nil {
				t.Fatal(err)
			}
			for near.Quiet() { // until it has arrived
				time.Sleep(time.Millisecond)
			}
			if n, quiet, err := near.Ask([]byte(question)); n != 0 || quiet || err != nil {
				t.Errorf("%d, %v, %v", n, quiet, err)
			}
		})
	}
	t.Run("more than the sockets hold", func(t *testing.T) {
		near, far := pair(t)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		read := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.Discard, far, int64(len(sent)))
			read <- err
		}()
		if n, quiet, err := near.Ask(sent); n != len(sent) || !quiet || err != nil {
			t.Fatalf("%d, %v, %v", n, quiet, err)
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		near, _ := pair(t)
		near.SetDeadline(time.Now().Add(time.Second)) // enough to ask, which waits as long for the answer
		if n, quiet, err := near.Ask([]byte(question)); n != len(question) || !quiet || err != nil {
			t.Errorf("%d, %v, %v", n, quiet, err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if n, quiet, err := near.Ask([]byte(question)); n != 0 || !quiet || !errors.Is(err, os.ErrDeadlineExceeded) { // it has passed
			t.Errorf("%d, %v, %v", n, quiet, err)
		}
	})
}
