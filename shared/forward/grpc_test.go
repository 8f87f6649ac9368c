package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ufc-mesh/ufc/shared/model"
)

// grpcShop is a service of gRPC's own test protocol.
type grpcShop struct {
	testpb.UnimplementedTestServiceServer
	started chan struct{} // told when a call is there that has to wait
}

// UnaryCall answers as large as asked, with the status asked for.
func (s *grpcShop) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-head", "h"))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-end-bin", string([]byte{0, 255}), "x-attempt", sent.Get("x-ufc-attempt")[0]))
	if in.ResponseStatus != nil {
		return nil, status.Error(codes.Code(in.ResponseStatus.Code), in.ResponseStatus.Message)
	}
	return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, in.ResponseSize)}}, nil
}

// StreamingOutputCall sends messages, and then a status if asked for.
func (s *grpcShop) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, out testpb.TestService_StreamingOutputCallServer) error {
	for _, wanted := range in.ResponseParameters {
		if err := out.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, wanted.Size)}}); err != nil {
			return err
		}
	}
	if in.ResponseStatus != nil {
		return status.Error(codes.Code(in.ResponseStatus.Code), in.ResponseStatus.Message)
	}
	return nil
}

// StreamingInputCall sums up.
func (s *grpcShop) StreamingInputCall(in testpb.TestService_StreamingInputCallServer) error {
	var sum int32
	for {
		message, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: sum})
		}
		if err != nil {
			return err
		}
		sum += int32(len(message.Payload.Body))
	}
}

// FullDuplexCall answers each message, before the next comes.
func (s *grpcShop) FullDuplexCall(both testpb.TestService_FullDuplexCallServer) error {
	for {
		message, err := both.Recv()
		if errors.Is(err, io.EOF) {
			both.SetTrailer(metadata.Pairs("x-end", "done"))
			return nil
		}
		if err != nil {
			return err
		}
		if err := both.Send(&testpb.StreamingOutputCallResponse{Payload: message.Payload}); err != nil {
			return err
		}
	}
}

// EmptyCall waits until the client goes.
func (s *grpcShop) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	s.started <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// startShop starts a gRPC server.
func startShop(t *testing.T, shop *grpcShop) (*grpc.Server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, shop)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return server, listener.Addr().String()
}

// speaksH2C makes the callee one of HTTP/2.
func speaksH2C(s *model.Service) { s.Protocol = model.H2C }

// newShopClient returns a gRPC client whose calls go through the rig to the callee "shop".
func newShopClient(t *testing.T, r *rig) (context.Context, testpb.TestServiceClient) {
	t.Helper()
	conn, err := grpc.NewClient(r.server.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "x-ufc-service-name", "shop"), testpb.NewTestServiceClient(conn)
}

func TestGRPC(t *testing.T) {
	_, address := startShop(t, &grpcShop{})
	r := newRig(t, speaksH2C, append(refusing(t, 1), address)...)
	ctx, client := newShopClient(t, r)

	t.Run("unary", func(t *testing.T) {
		for _, size := range []int32{0, 1, 1 << 20} {
			var header, trailer metadata.MD
			in := &testpb.SimpleRequest{ResponseSize: size, Payload: &testpb.Payload{Body: make([]byte, size)}}
			out, err := client.UnaryCall(ctx, in, grpc.Header(&header), grpc.Trailer(&trailer))
			if err != nil || len(out.Payload.Body) != int(size) {
				t.Fatal(len(out.GetPayload().GetBody()), err)
			}
			if !slices.Equal(header.Get("x-head"), []string{"h"}) || !slices.Equal(trailer.Get("x-end-bin"), []string{"\x00\xff"}) {
				t.Errorf("got the header %v and the trailer %v", header, trailer)
			}
		}
	})
	t.Run("status", func(t *testing.T) {
		in := &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(codes.DataLoss), Message: "ä, \t\n"}}
		var trailer metadata.MD
		_, err := client.UnaryCall(ctx, in, grpc.Trailer(&trailer))
		if got := status.Convert(err); got.Code() != codes.DataLoss || got.Message() != "ä, \t\n" || trailer.Get("x-end-bin") == nil {
			t.Errorf("got %v, %v", err, trailer)
		}
		if _, err = client.UnimplementedCall(ctx, &testpb.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v", err)
		}
	})
	t.Run("server streams", func(t *testing.T) {
		in := &testpb.StreamingOutputCallRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(codes.Aborted), Message: "enough"}}
		for size := range int32(100) {
			in.ResponseParameters = append(in.ResponseParameters, &testpb.ResponseParameters{Size: size * 100})
		}
		out, err := client.StreamingOutputCall(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		for size := range 100 {
			if message, err := out.Recv(); err != nil || len(message.Payload.Body) != size*100 {
				t.Fatal(size, err)
			}
		}
		if _, err := out.Recv(); status.Code(err) != codes.Aborted || status.Convert(err).Message() != "enough" {
			t.Errorf("got %v at the end", err)
		}
	})
	t.Run("client streams", func(t *testing.T) {
		in, err := client.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := in.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 3000)}}); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := in.CloseAndRecv(); err != nil || out.AggregatedPayloadSize != 300000 {
			t.Errorf("got %v, %v", out, err)
		}
	})
	t.Run("both stream", func(t *testing.T) {
		both, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			want := fmt.Sprint("message ", n)
			if err := both.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: []byte(want)}}); err != nil {
				t.Fatal(err)
			}
			if got, err := both.Recv(); err != nil || string(got.Payload.Body) != want {
				t.Fatal(got, err)
			}
		}
		both.CloseSend()
		if _, err := both.Recv(); !errors.Is(err, io.EOF) || !slices.Equal(both.Trailer().Get("x-end"), []string{"done"}) {
			t.Errorf("got %v and the trailer %v at the end", err, both.Trailer())
		}
	})
	r.expect(t, 0, "ufc_attempts_total", "result", "read_error")
	r.expect(t, 0, "ufc_attempts_total", "result", "canceled")
}

func TestGRPCClientGoes(t *testing.T) {
	shop := &grpcShop{started: make(chan struct{}, 1)}
	_, address := startShop(t, shop)
	r := newRig(t, speaksH2C, address)
	ctx, client := newShopClient(t, r)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		<-shop.started
		cancel()
	}()
	if _, err := client.EmptyCall(ctx, &testpb.Empty{}); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	r.expect(t, 1, "ufc_attempts_total", "result", "canceled")
}

// TestGRPCServerGoesGracefully stops one of two instances as a deployment does it, between calls: none fails for it.
func TestGRPCServerGoesGracefully(t *testing.T) {
	going, first := startShop(t, &grpcShop{})
	_, second := startShop(t, &grpcShop{})
	r := newRig(t, speaksH2C, first, second)
	ctx, client := newShopClient(t, r)
	calls := func(n int) {
		t.Helper()
		for range n {
			if _, err := client.UnaryCall(ctx, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("hello")}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	calls(20)
	going.GracefulStop()
	calls(20)
	r.expect(t, 0, "ufc_attempts_total", "result", "read_error")
}
