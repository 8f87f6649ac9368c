package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// callTimeout bounds each call to etcd. An answer takes milliseconds; five seconds are for an election in between.
	callTimeout = 5 * time.Second
	// pageTimeout bounds the reading of a page from an etcd that did answer: maxMessage at 2 MiB/s.
	pageTimeout = 30 * time.Second
	// keepaliveTime and keepaliveTimeout find a connection dead within 15 s. Servers refuse pings more often than each 5 s.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// maxMessage bounds one answer in memory. Watches are fragmented at about 1.5 MiB, pages are about 3 MiB.
	maxMessage = 64 << 20
)

// reconnect makes an agent notice within a second that etcd is back: gRPC's own backoff goes up to two minutes. The jitter
// keeps an etcd that returns to thousands of agents from being asked by all at once.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 800 * time.Millisecond},
	MinConnectTimeout: 5 * time.Second,
}

// link is an open client of etcd that knows why its calls fail.
type link struct {
	*clientv3.Client
	endpoints []string
	pilot     *pilot
	running   sync.WaitGroup
	timeout   time.Duration          // of each call
	reason    atomic.Pointer[string] // the last failure of a call, in gRPC's words
	token     atomic.Pointer[string] // of the last sign-in; nil: it may be no good
	// deaf is the endpoint that answers calls but no requests for a sign of life, as etcd's gRPC proxy does; nil: none.
	deaf atomic.Pointer[string]
}

// signedIn marks the context of a stream that the last sign-in is good enough for. The client signs in anew for each stream,
// which costs etcd a write, and the check of a password.
type signedIn struct{}

// openLink opens a client. It waits for etcd, up to the timeout of a call, only if there is a user to sign in; else the
// first call shows whether etcd is there. Everything that the client does ends with ctx.
func openLink(ctx context.Context, cfg *Config, timeout time.Duration) (l *link, err error) {
	secrets, err := tlsConfig(cfg)
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(timeout)
	for i := range cfg.Endpoints {
		dial := time.Until(until) // all of what is left for the last one
		if more := len(cfg.Endpoints) - i; more > 1 {
			dial = min(dial/time.Duration(more), cfg.pilot.patience)
		}
		l = &link{endpoints: cfg.Endpoints, timeout: timeout}
		if err = l.open(ctx, cfg, secrets, i, dial); err == nil || !away(err) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, l.explain("sign in", err)
	}
	return l, nil
}

// open opens the client at one of the endpoints. Only to sign in it waits for it.
func (l *link) open(ctx context.Context, cfg *Config, secrets *tls.Config, endpoint int, timeout time.Duration) (err error) {
	options := []grpc.DialOption{grpc.WithConnectParams(reconnect), grpc.WithChainUnaryInterceptor(l.remember)}
	if secrets != nil {
		options = append(options, grpc.WithTransportCredentials(newRenewed(cfg, secrets)))
	}
	l.Client, err = clientv3.New(clientv3.Config{
		Context:              ctx,
		Endpoints:            cfg.Endpoints[endpoint : endpoint+1],
		Username:             cfg.Username,
		Password:             cfg.Password,
		DialTimeout:          timeout,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		// Pings on connections without a stream are off (PermitWithoutStream): etcd's servers forbid them and would close
		// the connections of a tool that is between two calls.
		MaxCallRecvMsgSize:    maxMessage,
		BackoffWaitBetween:    200 * time.Millisecond,
		BackoffJitterFraction: 0.5,
		Logger:                zap.NewNop(), // errors come back from the calls, and are logged at a bounded rate
		DialOptions:           options,
	})
	if err != nil {
		return err
	}
	l.pilot = newPilot(l.Client, cfg, endpoint)
	if len(cfg.Endpoints) > 1 {
		l.running.Go(l.pilot.run)
	}
	return nil
}

// Close ends the connections, and returns when nothing of the link is left.
func (l *link) Close() error {
	err := l.Client.Close()
	l.running.Wait()
	return err
}

// remember keeps the token of a sign-in, and the reason of a failed call. The client replaces the error of a call that ran out of time by a bare
// "deadline exceeded", and with it goes why no connection stood: refused, unknown host, bad certificate.
func (l *link) remember(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	signIn, signs := reply.(*pb.AuthenticateResponse)
	if token := l.token.Load(); signs && token != nil && ctx.Value(signedIn{}) != nil {
		signIn.Token = *token
		return nil
	}
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err != nil {
		reason := status.Convert(err).Message()
		l.reason.Store(&reason)
	} else if signs {
		l.token.Store(&signIn.Token)
	}
	return err
}

// isDeaf tells whether an endpoint is to be asked for no sign of life.
func (l *link) isDeaf(endpoint string) bool {
	deaf := l.deaf.Load()
	return deaf != nil && *deaf == endpoint
}

// explain adds to an error of etcd's client what was being done, the endpoints, and why no endpoint answered.
func (l *link) explain(doing string, err error) error {
	reason := ""
	if last := l.reason.Load(); last != nil && errors.Is(err, context.DeadlineExceeded) {
		reason = "; " + *last
	}
	return fmt.Errorf("%s: etcd at %s: %w%s", doing, strings.Join(l.endpoints, " "), err, reason)
}

// call runs one call with the usual time limit, and explains its error.
func call[T any](ctx context.Context, l *link, doing string, f func(context.Context) (T, error)) (T, error) {
	return callWithin(ctx, l, l.timeout, doing, f)
}

func callWithin[T any](ctx context.Context, l *link, limit time.Duration, doing string, f func(context.Context) (T, error)) (T, error) {
	endpoint := l.pilot.endpoint()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer, err := f(limited)
	if err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			l.pilot.hangs(endpoint)
		}
		err = l.explain(doing, err)
	}
	return answer, err
}

// away tells whether the error means that etcd can't be reached or has no leader, rather than that it refuses.
func away(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var refusal rpctypes.EtcdError
	if errors.As(err, &refusal) {
		return refusal.Code() == codes.Unavailable
	}
	return status.Code(err) == codes.Unavailable
}
