package forward

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// fused has the fuse that a Service has by default.
func fused(s *model.Service) { s.Fuse = model.DefaultService("").Fuse }

// overload makes the agent see so many calls to the callee succeed and then all fail, until the fuse limits it.
func (r *rig) overload(t testing.TB, delivered int) {
	t.Helper()
	r.outcomes(t, delivered, health.OK)
	eventually(t, func() bool {
		r.outcomes(t, 20, health.ReadError)
		return r.count(t, "ufc_avalanche") == 1
	}, func() string { return "no avalanche began" })
}

func (r *rig) outcomes(t testing.TB, n int, result health.Result) {
	t.Helper()
	for range n {
		call := &agent.Call{Callee: "shop", Class: agent.DefaultClass}
		if err := r.agent.Begin(call); err != nil {
			return // the fuse's doing
		}
		attempt, err := r.agent.Pick(call)
		if err != nil {
			t.Fatal(err)
		}
		attempt.Done(agent.Outcome{Result: result, Latency: time.Millisecond})
		call.End(200)
	}
}

// TestDegradeGoesBothWays: in an avalanche, requests near the cut are marked for the callee and for the caller.
func TestDegradeGoesBothWays(t *testing.T) {
	marks := make(chan string, 100)
	live := backend(t, func(w http.ResponseWriter, r *http.Request) {
		marks <- r.Header.Get("x-ufc-degrade")
		w.Header().Set("X-Ufc-Degrade", "9")
	})
	r := newRig(t, fused, live)
	ask := func() (status int, marked string) {
		req := r.request(t, "GET", "/", nil)
		req.Header.Set("x-ufc-degrade", "3")
		resp, _ := r.do(t, req)
		if resp.StatusCode == http.StatusOK {
			if heard := <-marks; heard != resp.Header.Get("x-ufc-degrade") {
				t.Errorf("the instance was told %q, the client %q", heard, resp.Header.Get("x-ufc-degrade"))
			}
		} else if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.Header.Get("x-ufc-error") != agent.ReasonFused ||
			err != nil || after < 1 {
			t.Errorf("refused with %d %v", resp.StatusCode, resp.Header)
		}
		return resp.StatusCode, resp.Header.Get("x-ufc-degrade")
	}
	for _, service := range []string{"", "shop"} { // a gateway, too
		r.Service = service
		if status, marked := ask(); status != 200 || marked != "" {
			t.Errorf("in normal times: %d, marked %q", status, marked)
		}
	}
	r.overload(t, 50)
	for _, service := range []string{"", "shop"} {
		r.Service = service
		eventually(t, func() bool {
			status, marked := ask()
			return status == 200 && marked >= "1" && marked <= "3"
		}, func() string { return "nothing is admitted and marked" })
	}
	eventually(t, func() bool {
		status, marked := ask()
		return status == http.StatusServiceUnavailable && marked == ""
	}, func() string { return "nothing is refused" })
	if n := r.count(t, "ufc_refused_total", "reason", agent.ReasonFused); n == 0 {
		t.Error("refusals aren't counted")
	}
}

func TestWhatAProgramSaysOfItsRequest(t *testing.T) {
	live := backend(t, func(http.ResponseWriter, *http.Request) {})
	r := newRig(t, fused, live)
	type said struct {
		class    int
		repeated bool
	}
	got := make(chan said, 1)
	r.Ended = func(_ *http.Request, call *agent.Call, _ *agent.Refusal) { got <- said{call.Class, call.Repeated} }
	f := func(attempt, class string, repeated bool, wantClass int) {
		t.Helper()
		req := r.request(t, "GET", "/", nil)
		req.Header.Set("x-ufc-attempt", attempt)
		req.Header.Set("x-ufc-class", class)
		r.do(t, req)
		if heard := <-got; heard != (said{wantClass, repeated}) {
			t.Errorf("attempt %q of class %q: %+v", attempt, class, heard)
		}
	}
	f("0", "", false, 4)
	f("", "7", false, 7)
	f("1", "0", true, 0)
	f("99", "4", true, 4)
	f("100", "4", false, 4)
	f("many", "4", false, 4)
	r.Service = "shop" // a gateway's clients have no say
	f("1", "7", false, 4)
}

// TestClientsMayOnlyShortenInAnAvalanche: they override the limits of normal times in both directions.
func TestClientsMayOnlyShortenInAnAvalanche(t *testing.T) {
	override := true
	r := newRig(t, func(s *model.Service) {
		fused(s)
		s.Timeouts.ClientOverride = override
	}, "127.0.0.1:1")
	f := func(client overrides, want limits) {
		t.Helper()
		var call *agent.Call
		eventually(t, func() bool {
			call = &agent.Call{Callee: "shop", Class: agent.MaxClass}
			return r.agent.Begin(call) == nil
		}, func() string { return "nothing is admitted" })
		got := limitsOf(call, client)
		if got.connect != want.connect || got.write != want.write || got.read != want.read {
			t.Errorf("a client's %v: limits %v %v %v, want %v %v %v", client, got.connect, got.write, got.read, want.connect, want.write, want.read)
		}
	}
	const s, m = time.Second, time.Millisecond
	f(overrides{}, limits{connect: 300 * m, write: 5 * s, read: 5 * s})
	f(overrides{connect: s, write: 9 * s, read: 9 * s}, limits{connect: s, write: 9 * s, read: 9 * s})
	f(overrides{connect: m, write: m, read: m}, limits{connect: m, write: m, read: m})
	r.overload(t, 100)
	f(overrides{}, limits{connect: 100 * m, write: s, read: s})
	f(overrides{connect: s, write: 9 * s, read: 9 * s}, limits{connect: 100 * m, write: s, read: s})
	f(overrides{connect: m, write: m, read: m}, limits{connect: m, write: m, read: m})
}

// TestARetryGoesByTheLimitsOfItsOwnTime: an avalanche that begins after a call did holds for the call's next attempt.
func TestARetryGoesByTheLimitsOfItsOwnTime(t *testing.T) {
	arrived, leave := make(chan struct{}, 2), make(chan struct{})
	var seen atomic.Int32
	stall := func(http.ResponseWriter, *http.Request) {
		first := seen.Add(1) == 1
		if arrived <- struct{}{}; first {
			<-leave
			panic(http.ErrAbortHandler)
		}
		time.Sleep(2 * time.Second)
	}
	r := newRig(t, func(s *model.Service) {
		fused(s)
		s.Retries.Avalanche = model.RetrySet{Attempts: 1, When: s.Retries.Normal.When}
		s.Timeouts.Avalanche.Read, s.Timeouts.Avalanche.Total = ms(200), ms(9000)
	}, backend(t, stall), backend(t, stall))
	var ended time.Time
	status := make(chan int)
	go func() {
		req := r.request(t, "GET", "/", nil)
		req.Header.Set("x-ufc-class", "7")
		resp, err := r.client.Do(req)
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		resp.Body.Close()
		ended = time.Now()
		status <- resp.StatusCode
	}()
	within(t, "the first attempt", once(arrived))
	r.overload(t, 100)
	time.Sleep(300 * time.Millisecond) // for there to be room for a retry
	close(leave)
	within(t, "the second attempt", once(arrived))
	begun := time.Now()
	if got := <-status; got != http.StatusGatewayTimeout || ended.Sub(begun) > time.Second {
		t.Errorf("%d after %s", got, ended.Sub(begun))
	}
}
