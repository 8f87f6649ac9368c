package integration

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpctest "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// calculator is an instance that speaks gRPC: the service of gRPC's own interoperability tests.
type calculator struct {
	grpctest.UnimplementedTestServiceServer
	name  string
	calls chan string        // the metadata x-ufc-service-name of each unary call
	ended chan time.Duration // what was left of the deadline when EmptyCall began; told when it ends
}

func newCalculator(t testing.TB, name string) (*calculator, string) {
	t.Helper()
	listener := listen(t)
	c := &calculator{name: name, calls: make(chan string, 100), ended: make(chan time.Duration, 1)}
	server := grpc.NewServer()
	grpctest.RegisterTestServiceServer(server, c)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return c, listener.Addr().String()
}

// UnaryCall answers with the payload, or with the status that is asked for and a trailer.
func (c *calculator) UnaryCall(ctx context.Context, in *grpctest.SimpleRequest) (*grpctest.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	c.calls <- strings.Join(md.Get("x-ufc-service-name"), ",")
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-served-by", c.name))
	if wanted := in.GetResponseStatus(); wanted != nil {
		return nil, status.Error(codes.Code(wanted.GetCode()), wanted.GetMessage())
	}
	return &grpctest.SimpleResponse{Payload: in.GetPayload(), Hostname: c.name}, nil
}

// StreamingOutputCall sends as many messages as are asked for, and then a status.
func (c *calculator) StreamingOutputCall(in *grpctest.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[grpctest.StreamingOutputCallResponse]) error {
	for _, parameters := range in.GetResponseParameters() {
		payload := &grpctest.Payload{Body: make([]byte, parameters.GetSize())}
		if err := stream.Send(&grpctest.StreamingOutputCallResponse{Payload: payload}); err != nil {
			return err
		}
	}
	if wanted := in.GetResponseStatus(); wanted != nil {
		return status.Error(codes.Code(wanted.GetCode()), wanted.GetMessage())
	}
	return nil
}

// FullDuplexCall answers each message before the next one comes.
func (c *calculator) FullDuplexCall(stream grpc.BidiStreamingServer[grpctest.StreamingOutputCallRequest, grpctest.StreamingOutputCallResponse]) error {
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&grpctest.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

// EmptyCall lasts until its deadline, or until the client has gone.
func (c *calculator) EmptyCall(ctx context.Context, _ *grpctest.Empty) (*grpctest.Empty, error) {
	left := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	<-ctx.Done()
	c.ended <- left
	return nil, ctx.Err()
}

// An unmodified gRPC client dials the agent instead of a server, and names its callee in the metadata.
func TestGRPC(t *testing.T) {
	t.Parallel()
	one, first := newCalculator(t, "one")
	two, second := newCalculator(t, "two")
	m := startAgent(t, documents("calculator", "protocol: h2c", first, second)+"---\n"+
		documents("alone", "protocol: h2c", first)+"---\n"+documents("nobody", "protocol: h2c"))
	conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", m.agent), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := grpctest.NewTestServiceClient(conn)
	calling := func(service string) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		t.Cleanup(cancel)
		return metadata.AppendToOutgoingContext(ctx, "x-ufc-service-name", service)
	}

	t.Run("unary", func(t *testing.T) {
		counts := map[string]int{}
		for n := range 10 {
			payload := &grpctest.Payload{Body: []byte(strings.Repeat("x", n*10_000))}
			answer, err := client.UnaryCall(calling("calculator"), &grpctest.SimpleRequest{Payload: payload})
			if err != nil || string(answer.GetPayload().GetBody()) != string(payload.Body) {
				t.Fatalf("call %d: %d bytes, %v", n, len(answer.GetPayload().GetBody()), err)
			}
			counts[answer.GetHostname()]++
		}
		// One connection of the client's, but each call has its own instance.
		if counts["one"] != 5 || counts["two"] != 5 {
			t.Errorf("calls over one connection went to %v, want 5 each", counts)
		}
		for _, c := range []*calculator{one, two} {
			if named := <-c.calls; named != "calculator" {
				t.Errorf("%s was called as %q", c.name, named)
			}
		}
	})

	t.Run("errors", func(t *testing.T) {
		f := func(service string, want codes.Code, message string) {
			t.Helper()
			var trailer metadata.MD
			_, err := client.UnaryCall(calling(service), &grpctest.SimpleRequest{
				ResponseStatus: &grpctest.EchoStatus{Code: int32(want), Message: message},
			}, grpc.Trailer(&trailer))
			if got := status.Convert(err); got.Code() != want || message != "" && (got.Message() != message || len(trailer.Get("x-served-by")) != 1) {
				t.Errorf("%s: %v, trailers %v; want %v %q", service, err, trailer, want, message)
			}
		}
		f("calculator", codes.FailedPrecondition, "not today: 100% ünfit")
		f("calculator", codes.NotFound, "nothing here")
		// What the agent itself says, as gRPC maps HTTP's statuses.
		f("unknown", codes.Unimplemented, "")
		f("nobody", codes.Unavailable, "")
	})

	t.Run("server streaming", func(t *testing.T) {
		request := &grpctest.StreamingOutputCallRequest{ResponseStatus: &grpctest.EchoStatus{Code: int32(codes.DataLoss), Message: "the end"}}
		for range 20 {
			request.ResponseParameters = append(request.ResponseParameters, &grpctest.ResponseParameters{Size: 50_000})
		}
		stream, err := client.StreamingOutputCall(calling("alone"), request)
		if err != nil {
			t.Fatal(err)
		}
		received := 0
		for {
			message, err := stream.Recv()
			if err != nil {
				if status.Code(err) != codes.DataLoss || received != 20 {
					t.Errorf("after %d messages: %v", received, err)
				}
				return
			}
			if len(message.GetPayload().GetBody()) != 50_000 {
				t.Fatalf("message %d has %d bytes", received, len(message.GetPayload().GetBody()))
			}
			received++
		}
	})

	t.Run("both ways", func(t *testing.T) {
		stream, err := client.FullDuplexCall(calling("alone"))
		if err != nil {
			t.Fatal(err)
		}
		// Each message waits for the answer to the one before, so that nothing may be held back on the way.
		for n := range 50 {
			text := fmt.Sprintf("message %d", n)
			if err := stream.Send(&grpctest.StreamingOutputCallRequest{Payload: &grpctest.Payload{Body: []byte(text)}}); err != nil {
				t.Fatal(err)
			}
			answer, err := stream.Recv()
			if err != nil || string(answer.GetPayload().GetBody()) != text {
				t.Fatalf("message %d: %q, %v", n, answer.GetPayload().GetBody(), err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("after the client's end: %v, want EOF", err)
		}
	})

	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(calling("alone"), 400*time.Millisecond)
		defer cancel()
		if _, err := client.EmptyCall(ctx, &grpctest.Empty{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a call over its deadline: %v", err)
		}
		select {
		case left := <-one.ended:
			if left <= 0 || left > 400*time.Millisecond {
				t.Errorf("the instance was told of %s left, of 400 ms", left)
			}
		case <-time.After(10 * time.Second):
			t.Error("the instance goes on after the deadline")
		}
	})
}
