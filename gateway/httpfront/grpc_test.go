package httpfront

import (
	"context"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
)

// newGRPC is a gateway in front of gRPC's own test service, and a client of it. The service passes through below its name; the
// operation refused takes devices only.
func newGRPC(t *testing.T) (*gateway, *grpc.ClientConn) {
	t.Helper()
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, interop.NewTestServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	g := newGateway(t, newService(t), nil)
	services, err := upstream.NewSet([]fieldgate.Upstream{{Name: "grpc", Addresses: []string{"http://" + listener.Addr().String()}, Protocol: fieldgate.UpstreamHTTP2}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		services.Run(ctx)
	})
	g.pipeline.Upstreams = services
	everyone := fieldgate.Access{Anonymous: true, Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
	devices := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
	operation := func(id, path string, access fieldgate.Access) fieldgate.Operation {
		return fieldgate.Operation{ID: id, HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodPost, Path: path}, Access: access, Upstream: "grpc",
			MaxBody: fieldgate.DefaultMaxBody, Timeout: 30 * time.Second}
	}
	testing := &fieldgate.Contract{API: "testing", Version: "1", Title: "Test service", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "testing", HTTP: &fieldgate.HTTPBinding{Path: "/grpc.testing.TestService"}, Access: everyone,
			PassThrough: true, Upstream: "grpc", Timeout: 30 * time.Second, MaxBody: fieldgate.DefaultMaxBody}}}
	refused := &fieldgate.Contract{API: "refused", Version: "1", Title: "Refused", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{operation("refused", "/refused.Service/Method", devices)}}
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 2, Contracts: []*fieldgate.Contract{testing, refused}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	client, err := grpc.NewClient("passthrough:///"+g.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return g, client
}

// TestGRPCInterop runs gRPC's own interoperability cases through the gateway. Those functions end the process when a case fails.
func TestGRPCInterop(t *testing.T) {
	g, client := newGRPC(t)
	service := grpc_testing.NewTestServiceClient(client)
	for name, do := range map[string]func(context.Context, grpc_testing.TestServiceClient, ...grpc.CallOption){
		"empty unary": interop.DoEmptyUnaryCall, "large unary": interop.DoLargeUnaryCall, "client streaming": interop.DoClientStreaming,
		"server streaming": interop.DoServerStreaming, "ping pong": interop.DoPingPong, "empty stream": interop.DoEmptyStream,
		"deadline": interop.DoTimeoutOnSleepingServer, "cancelled before": interop.DoCancelAfterBegin, "cancelled between": interop.DoCancelAfterFirstResponse,
		"metadata": interop.DoCustomMetadata, "status": interop.DoStatusCodeAndMessage, "message": interop.DoSpecialStatusMessage,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			do(ctx, service)
		})
	}
	t.Run("no such method", func(t *testing.T) {
		interop.DoUnimplementedMethod(t.Context(), client)
	})
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // what was cancelled leaves nothing behind
		if g.Stats().Streams == 0 {
			return
		}
	}
	t.Errorf("%d streams are left", g.Stats().Streams)
}

// The client's own deadline, as grpc-timeout has it.
func TestGRPCDeadline(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for timeout, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "99999999S": 99999999 * time.Second, "5m": 5 * time.Millisecond, "7u": 7 * time.Microsecond, "8n": 8,
		"99999999H": math.MaxInt64 / time.Hour * time.Hour, "0m": 0,
		"": -1, "H": -1, "1": -1, "1h": -1, "-1S": -1, "+1S": -1, "1.5S": -1, "100000000S": -1,
	} {
		if got := grpcDeadline([]byte(timeout), now); got.IsZero() != (want < 0) || want >= 0 && got.Sub(now) != want {
			t.Errorf("%q: %v", timeout, got)
		}
	}
}

// A call that is refused is told so in gRPC's words.
func TestGRPCRefusals(t *testing.T) {
	g, client := newGRPC(t)
	for _, c := range []struct {
		method, token string
		want          codes.Code
		record        int
	}{
		{"/refused.Service/Method", "", codes.Unauthenticated, 401},
		{"/refused.Service/Method", "wrong", codes.Unauthenticated, 401},
		{"/unknown.Service/Method", "", codes.Unimplemented, 404},
	} {
		ctx := t.Context()
		if c.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
		}
		before := g.records.count()
		err := client.Invoke(ctx, c.method, &grpc_testing.Empty{}, &grpc_testing.Empty{})
		if got := status.Convert(err); got.Code() != c.want || got.Message() == "" || strings.Contains(got.Message(), "unexpected HTTP") {
			t.Errorf("%s %q: %v", c.method, c.token, err)
		}
		if record := g.records.next(t, before); record.Status != c.record {
			t.Errorf("%s: record %d", c.method, record.Status)
		}
	}
}

// A stream outlives the operation's time-out while it is silent, and ends within a second when its caller's credential is revoked.
func TestGRPCRevoked(t *testing.T) {
	g, client := newGRPC(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+g.token)
	stream, err := grpc_testing.NewTestServiceClient(client).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	message := &grpc_testing.StreamingOutputCallRequest{ResponseParameters: []*grpc_testing.ResponseParameters{{Size: 10}}}
	for range 3 {
		if err := stream.Send(message); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.Stats().Streams; n != 1 {
		t.Errorf("%d streams", n)
	}
	g.revoke(t)
	if _, err := stream.Recv(); err == nil || err == io.EOF {
		t.Errorf("the stream goes on: %v", err)
	}
}

func TestGRPCMessage(t *testing.T) {
	if got := string(appendGRPCMessage(nil, "50 % of ä\n")); got != "50 %25 of %C3%A4%0A" {
		t.Errorf("%q", got)
	}
}
