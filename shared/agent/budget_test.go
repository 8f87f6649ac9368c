package agent

import (
	"sync"
	"testing"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// retried makes n calls, each of which fails in the given way and wants one retry, and counts the retries it got.
func (r *rig) retried(t *testing.T, n int, result health.Result) (retries int) {
	t.Helper()
	for range n {
		call := r.begin(t, &Call{Callee: "shop"})
		r.pick(t, call).Done(Outcome{Result: result})
		if attempt, err := r.Pick(call); err == nil {
			attempt.Done(Outcome{Result: health.OK})
			retries++
		}
	}
	return retries
}

func TestRetryBudget(t *testing.T) {
	service := documented("shop", func(s *model.Service) {
		s.Ban.Requests, s.Fuse.SuccessBelow = &model.RequestBan{Failures: 64, Of: 64}, 0
	})
	f := func(name string, result health.Result, calls, low, high int) {
		t.Helper()
		r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"), service)...)
		if got := r.retried(t, calls, result); got < low || got > high {
			t.Errorf("%s: %d retries for %d calls, want %d to %d", name, got, calls, low, high)
		}
	}
	f("the first ten are free", health.ReadError, 10, 10, 10)
	f("then a tenth of the calls", health.ReadTimeout, 1000, 108, 111)
	f("refused connections take nothing", health.ConnectError, 50, 50, 50)
}

func TestBucket(t *testing.T) {
	var b bucket
	b.fill()
	for range 100 {
		b.earn(1)
	}
	spent := 0
	for b.spend() {
		spent++
	}
	if spent != 10 {
		t.Errorf("a bucket holds %d tokens", spent)
	}
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 1000 {
				b.earn(0.001)
			}
		})
	}
	users.Wait()
	for spent = 0; b.spend(); spent++ {
	}
	if spent != 4 {
		t.Errorf("4,000 thousandths are %d tokens", spent)
	}
}

func TestMayRetry(t *testing.T) {
	r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", func(s *model.Service) {
		s.Retries.Normal.Attempts = 1
	}))...)
	f := func(result health.Result, tokens int64, want bool) {
		t.Helper()
		call := r.begin(t, &Call{Callee: "shop"})
		attempt := r.pick(t, call)
		attempt.Done(Outcome{Result: result})
		call.service.budget.millitokens.Store(tokens)
		if call.MayRetry() != want {
			t.Errorf("%v with %d millitokens: %v", result, tokens, !want)
		}
	}
	f(health.ReadError, token, true)
	f(health.ReadError, token-1, false)
	f(health.ConnectError, 0, true)
}
