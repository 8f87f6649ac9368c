package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
)

// errElsewhere ends a stream since another endpoint is in use now. Nothing is wrong: it is to be opened anew.
var errElsewhere = errors.New("another endpoint is in use now")

// pilot keeps a client at the first of its endpoints that works. The client is given one at a time, since its own balancer
// takes them in turn, and holds a connection to each.
//
// An endpoint is left when its connection fails or doesn't come to stand, and when a call runs out of time on a connection
// that stands, as those to a member that hangs do; the keepalive finds that too, within 15 s. Then the next one is taken,
// after the last the first. Every minute or so, the endpoints before the one in use are asked for
// something that needs a quorum; the first that answers is taken. All of that is jittered, so that agents that have lost the
// same member don't come to another one at the same moment, nor return at the same.
type pilot struct {
	client    *clientv3.Client
	endpoints []string
	probe     string // a key that may be read
	timing    pilotTiming

	mu      sync.Mutex
	current int // the endpoint in use
	stint   int // how many endpoints were in use before this one
	since   time.Time
	left    context.Context // ends when streams must leave the endpoint
	leave   context.CancelFunc
	look    context.CancelFunc // ends the pilot's wait for something to happen
	suspect bool               // the endpoint in use was told to hang
}

// pilotTiming is what tests shorten.
type pilotTiming struct {
	patience time.Duration // for a connection to stand, while there are others to try
	jitter   time.Duration // at most before the next endpoint is tried
	settle   time.Duration // in which an endpoint isn't left again only because a call took too long
	home     time.Duration // between looks at the endpoints before, half to one and a half
	probe    time.Duration // for an answer to such a look
}

// A connection stands after a few round trips: two seconds are for a line across the world and a busy server. If nobody is
// that fast, what gRPC itself waits for counts, which is 5 s.
var defaultPilotTiming = pilotTiming{
	patience: 2 * time.Second, jitter: 500 * time.Millisecond, settle: 10 * time.Second, home: time.Minute, probe: 3 * time.Second,
}

func newPilot(client *clientv3.Client, cfg *Config, current int) *pilot {
	p := &pilot{
		client: client, endpoints: cfg.Endpoints, probe: newKeyspace(cfg.Prefix).topology(), timing: cfg.pilot,
		current: current, since: time.Now(), look: func() {},
	}
	p.left, p.leave = context.WithCancel(client.Ctx())
	return p
}

// endpoint is the one in use.
func (p *pilot) endpoint() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endpoints[p.current]
}

// stream returns the context of a stream that is to leave the endpoint when the pilot does: it ends then, with errElsewhere
// as its cause. Etcd's client puts all watches into one stream whose contexts have the same metadata, hence the number: else
// one that stays behind for a moment would keep the others there.
func (p *pilot) stream(ctx context.Context) (context.Context, context.CancelFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stint > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, "ufc-stint", strconv.Itoa(p.stint))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.left, func() { cancel(errElsewhere) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// ended returns why a stream that the pilot made ended without a word: it was to leave, or was silent for too long. Whether
// the endpoint hangs then, the next call tells.
func ended(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errElsewhere) {
		return errElsewhere
	}
	return errSilent
}

// hangs tells that an endpoint doesn't answer, though its connection may stand.
func (p *pilot) hangs(endpoint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if endpoint == p.endpoints[p.current] && time.Since(p.since) > p.timing.settle {
		p.suspect = true
		p.look()
	}
}

// run watches over the endpoint in use until the client is closed.
func (p *pilot) run() {
	ctx := p.client.Ctx()
	home := time.Now().Add(p.untilHome())
	for failures := 0; ctx.Err() == nil; {
		state := p.client.ActiveConnection().GetState()
		switch {
		case p.takeSuspect(), state == connectivity.TransientFailure:
			failures++
			p.next(ctx, failures)
			continue
		case state == connectivity.Ready:
			failures = 0
		case state == connectivity.Connecting:
			if p.await(ctx, state, p.patience(failures)) == state && ctx.Err() == nil {
				failures++
				p.next(ctx, failures)
			}
			continue
		}
		p.await(ctx, state, time.Until(home))
		if !time.Now().Before(home) {
			p.goHome(ctx)
			home = time.Now().Add(p.untilHome())
		}
	}
}

// await waits until the connection's state is another one, something is suspected, or the time is over, and returns the state.
func (p *pilot) await(ctx context.Context, state connectivity.State, limit time.Duration) connectivity.State {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p.mu.Lock()
	p.look = cancel
	if p.suspect {
		cancel()
	}
	p.mu.Unlock()
	conn := p.client.ActiveConnection()
	conn.WaitForStateChange(ctx, state)
	return conn.GetState()
}

func (p *pilot) takeSuspect() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	suspect := p.suspect
	p.suspect = false
	return suspect
}

// patience is how long a connection may take to stand: when all endpoints have had their time, as long as gRPC gives it.
func (p *pilot) patience(failures int) time.Duration {
	if failures >= len(p.endpoints) {
		return 2 * reconnect.MinConnectTimeout
	}
	return p.timing.patience
}

func (p *pilot) untilHome() time.Duration {
	return time.Duration(float64(p.timing.home) * (0.5 + rand.Float64()))
}

// next goes on to the next endpoint. After a round of failures it waits as long as gRPC would before it tries one again.
func (p *pilot) next(ctx context.Context, failures int) {
	wait := time.Duration(rand.Float64() * float64(p.timing.jitter))
	if rounds := failures / len(p.endpoints); rounds > 0 {
		longest := min(reconnect.Backoff.MaxDelay, reconnect.Backoff.BaseDelay<<min(rounds, 10))
		wait = longest/2 + time.Duration(rand.Float64()*float64(longest/2))
	}
	sleep(ctx, wait)
	p.mu.Lock()
	next := (p.current + 1) % len(p.endpoints)
	p.mu.Unlock()
	p.use(ctx, next)
}

// use takes an endpoint, and has the streams follow. What is under way on the connection that is left may end there.
func (p *pilot) use(ctx context.Context, endpoint int) {
	before := p.client.ActiveConnection().GetState()
	p.mu.Lock()
	p.current, p.suspect, p.since = endpoint, false, time.Now()
	p.stint++
	leave := p.leave
	p.left, p.leave = context.WithCancel(p.client.Ctx())
	p.mu.Unlock()
	p.client.SetEndpoints(p.endpoints[endpoint])
	leave()
	p.await(ctx, before, 50*time.Millisecond) // until the balancer has noticed: its state was the last endpoint's
}

// goHome takes the first of the endpoints before the one in use that works.
func (p *pilot) goHome(ctx context.Context) {
	p.mu.Lock()
	current := p.current
	p.mu.Unlock()
	for i := range current {
		if p.works(ctx, p.endpoints[i]) == nil {
			p.use(ctx, i)
			return
		}
	}
}

// works asks an endpoint for something that it can only answer if it is in touch with a quorum, and lets this user in.
func (p *pilot) works(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, p.timing.probe)
	defer cancel()
	conn, err := p.client.Dial(endpoint)
	if err != nil {
		return fmt.Errorf("dial %s: %w", endpoint, err)
	}
	defer conn.Close()
	_, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte(p.probe), CountOnly: true})
	return err
}
