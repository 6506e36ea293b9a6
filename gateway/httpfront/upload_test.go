package httpfront

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"fieldgate"
)

// scripted serves each connection by a script.
func scripted(t *testing.T, script func(link net.Conn, in *bufio.Reader)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			link, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer link.Close()
				script(link, bufio.NewReader(link))
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// readHead reads a request head.
func readHead(in *bufio.Reader) bool {
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err == nil
		}
	}
}

const refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!"

// dialUpload sends the head of an upload, and some of its content.
func dialUpload(t *testing.T, g *gateway, head string, sent int) (net.Conn, *bufio.Reader) {
	t.Helper()
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	link.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs fails
	if _, err := io.WriteString(link, head+strings.Repeat("x", sent)); err != nil {
		t.Fatal(err)
	}
	return link, bufio.NewReader(link)
}

const longUpload = "PUT /legacy/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"

// RFC 9110 §7.5, §10.1.1: a final answer may come before the content was sent. The client gets it then, and not when it has sent all.
func TestEarlyAnswer(t *testing.T) {
	for name, script := range map[string]func(link net.Conn, in *bufio.Reader){
		"before any content, and closes": func(link net.Conn, in *bufio.Reader) {
			readHead(in)
			io.WriteString(link, refusal)
		},
		"and reads on": func(link net.Conn, in *bufio.Reader) {
			readHead(in)
			io.WriteString(link, refusal)
			io.Copy(io.Discard, in)
		},
		"and reads no more": func(link net.Conn, in *bufio.Reader) {
			readHead(in)
			io.CopyN(io.Discard, in, 1000)
			io.WriteString(link, refusal)
			time.Sleep(300 * time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, scripted(t, script), nil)
			_, in := dialUpload(t, g, longUpload, 200_000)
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(answer.Body)
			if answer.StatusCode != 413 || string(content) != "no!" || err != nil || !answer.Close {
				t.Errorf("%d %q %v, closes: %v", answer.StatusCode, content, err, answer.Close)
			}
			if record := g.records.next(t, 0); record.Status != 413 || record.Problem != "" {
				t.Errorf("%+v", record)
			}
		})
	}
	t.Run("a client that sends all the same", func(t *testing.T) {
		g := newGateway(t, scripted(t, func(link net.Conn, in *bufio.Reader) {
			readHead(in)
			io.WriteString(link, refusal)
			io.CopyN(io.Discard, in, 1<<20)
		}), nil)
		request, err := http.NewRequest("PUT", "http://"+g.address+"/legacy/1", bytes.NewReader(make([]byte, 8<<20)))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != 413 {
			t.Error(answer.Status)
		}
	})
}

// Content goes both ways at once.
func TestBothWays(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flow := http.NewResponseController(w)
		flow.EnableFullDuplex()
		flow.Flush()
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(w, strings.ToUpper(line))
			flow.Flush()
		}
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	link, in := dialUpload(t, g, "POST /legacy/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 0)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(answer.Body)
	for range 3 {
		io.WriteString(link, "6\r\nhello\n\r\n")
		if line, err := lines.ReadString('\n'); line != "HELLO\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	io.WriteString(link, "0\r\n\r\n")
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
	if record := g.records.next(t, 0); record.Status != 200 || record.BytesIn != 18 || record.BytesOut != 18 {
		t.Errorf("%+v", record)
	}
}

// An upload that goes well leaves both connections usable.
func TestUploadKeepsConnections(t *testing.T) {
	opened := make(chan struct{}, 10)
	service := scripted(t, func(link net.Conn, in *bufio.Reader) {
		opened <- struct{}{}
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(link, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n%07d", n)
		}
	})
	g := newGateway(t, service, nil)
	link, in := dialUpload(t, g, "", 0)
	for range 3 {
		for _, head := range []string{"Content-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000), "Transfer-Encoding: chunked\r\n\r\n30d40\r\n" + strings.Repeat("x", 200_000) + "\r\n0\r\n\r\n"} {
			go io.WriteString(link, "PUT /legacy/1 HTTP/1.1\r\nHost: a\r\n"+head)
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if content, err := io.ReadAll(answer.Body); string(content) != "0200000" || err != nil || answer.Close {
				t.Fatalf("%q, %v, closes: %v", content, err, answer.Close)
			}
		}
	}
	if len(opened) != 1 {
		t.Errorf("%d connections to the service", len(opened))
	}
}

// A client that goes in the middle of its content takes the call with it; one that sends nonsense hears of it.
func TestUploadFaults(t *testing.T) {
	ended := make(chan error, 10)
	service := scripted(t, func(link net.Conn, in *bufio.Reader) {
		readHead(in)
		_, err := io.Copy(io.Discard, in)
		ended <- err
	})
	goroutines := runtime.NumGoroutine()
	g := newGateway(t, service, nil)
	leaving, _ := dialUpload(t, g, longUpload, 100_000)
	leaving.Close()
	<-ended // the service's side of the call
	if record := g.records.next(t, 0); record.Problem != fieldgate.ProblemBadRequest {
		t.Errorf("the client has gone: %+v", record)
	}
	link, in := dialUpload(t, g, "PUT /legacy/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 0)
	time.Sleep(20 * time.Millisecond) // it waits for more
	io.WriteString(link, "nonsense\r\n")
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != 400 {
		t.Errorf("%v, %v", answer, err)
	}
	g.stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // the service's side of the connections ends by itself
		if runtime.NumGoroutine() <= goroutines+1 {
			break
		}
	}
	if n := runtime.NumGoroutine(); n > goroutines+1 {
		t.Errorf("%d goroutines, there were %d", n, goroutines)
	}
}

// A service that dies while the client has not sent all yet is told at once.
func TestServiceDiesDuringUpload(t *testing.T) {
	g := newGateway(t, scripted(t, func(link net.Conn, in *bufio.Reader) {
		readHead(in)
		io.CopyN(io.Discard, in, 1000)
		link.(*net.TCPConn).SetLinger(0)
	}), nil)
	_, in := dialUpload(t, g, longUpload, 100_000)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != 502 {
		t.Errorf("%v, %v", answer, err)
	}
}

// gRPC passes through from HTTP/2 to HTTP/2, messages both ways at once, with status and metadata in trailers.
func TestGRPC(t *testing.T) {
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		in, _ := metadata.FromIncomingContext(stream.Context())
		stream.SetTrailer(metadata.Pairs("seen", strings.Join(in.Get("mine"), " ")))
		for {
			message := new(wrapperspb.StringValue)
			if err := stream.RecvMsg(message); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if message.Value == "fail" {
				return status.Error(codes.NotFound, "no such thing")
			}
			message.Value = strings.ToUpper(message.Value)
			if err := stream.SendMsg(message); err != nil {
				return err
			}
		}
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Stop()
	g := newGateway(t, "http://"+listener.Addr().String(), nil)
	if err := g.pipeline.Upstreams.Replace([]fieldgate.Upstream{{Name: "service", Addresses: []string{"http://" + listener.Addr().String()}, Protocol: fieldgate.UpstreamHTTP2}}); err != nil {
		t.Fatal(err)
	}
	client, err := grpc.NewClient("passthrough:///"+g.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "mine", "here"), 2*time.Minute)
	defer cancel()

	answer, trailer := new(wrapperspb.StringValue), metadata.MD{}
	if err := client.Invoke(ctx, "/legacy/Echo", wrapperspb.String("hello"), answer, grpc.Trailer(&trailer)); err != nil || answer.Value != "HELLO" || len(trailer.Get("seen")) != 1 || trailer.Get("seen")[0] != "here" {
		t.Errorf("%v, %v, %v", answer, trailer, err)
	}
	if err := client.Invoke(ctx, "/legacy/Echo", wrapperspb.String("fail"), answer); status.Code(err) != codes.NotFound || status.Convert(err).Message() != "no such thing" {
		t.Errorf("%v", err)
	}
	stream, err := client.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/legacy/Chat")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		text := fmt.Sprint("message ", i)
		if err := stream.SendMsg(wrapperspb.String(text)); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(answer); err != nil || answer.Value != strings.ToUpper(text) {
			t.Fatal(answer, err)
		}
	}
	stream.CloseSend()
	if err := stream.RecvMsg(answer); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
}
