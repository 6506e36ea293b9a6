package test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"fieldgate/test/port"
)

const grpcContract = `fieldgate: pass-through
info: {title: gRPC, version: 1.0.0}
access: anonymous
http: [{prefix: /grpc.testing.TestService, upstream: grpc}]
`

// gRPC's own interoperability cases through the built command over TLS, as an application's client would call it. Its functions end
// the process when a case fails.
func TestGRPCOverTLS(t *testing.T) {
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, interop.NewTestServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	n, secure := newNode(t, nil), port.Free(t)
	n.configure("node: n1\ndata: data\nlisten: {http: '%s', https: '%s', mqtt: '%s', coap: '%s', admin: '%s'}\ntls: {internal-ca: {names: [localhost]}}\n"+
		"upstreams: {grpc: {addresses: ['http://%s'], protocol: http2}}\n", n.http, secure, n.mqtt, n.coap, n.admin, listener.Addr())
	n.start()
	contract := filepath.Join(n.folder, "grpc.yaml")
	if err := os.WriteFile(contract, []byte(grpcContract), 0o600); err != nil {
		t.Fatal(err)
	}
	n.run("api", "publish", contract)
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM([]byte(n.run("tls", "ca"))) {
		t.Fatal("no certificate of the node's authority")
	}
	client, err := grpc.NewClient("passthrough:///"+secure, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: authorities, ServerName: "localhost"})))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	service := grpc_testing.NewTestServiceClient(client)
	for name, do := range map[string]func(context.Context, grpc_testing.TestServiceClient, ...grpc.CallOption){
		"unary": interop.DoLargeUnaryCall, "client stream": interop.DoClientStreaming, "server stream": interop.DoServerStreaming,
		"both ways": interop.DoPingPong, "deadline": interop.DoTimeoutOnSleepingServer, "cancelled": interop.DoCancelAfterFirstResponse,
		"metadata": interop.DoCustomMetadata, "status": interop.DoStatusCodeAndMessage,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			do(ctx, service)
		})
	}
	t.Run("refused", func(t *testing.T) { // by the gateway, in gRPC's words
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := client.Invoke(ctx, "/unknown.Service/Method", &grpc_testing.Empty{}, &grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("an unknown service: %v", err)
		}
		server.Stop()
		var err error
		for end := time.Now().Add(patience); time.Now().Before(end); {
			if err = client.Invoke(ctx, "/grpc.testing.TestService/EmptyCall", &grpc_testing.Empty{}, &grpc_testing.Empty{}); status.Code(err) == codes.Unavailable {
				return
			}
		}
		t.Errorf("a service that is gone: %v", err)
	})
}
