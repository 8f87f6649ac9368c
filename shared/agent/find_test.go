package agent

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// shelf is what an agent that follows little may fetch: the records of services that its catalog doesn't have yet.
type shelf struct {
	catalog *catalog.Catalog
	records map[string][]model.Record
	takes   time.Duration
	err     error
	asked   []string // with patience, and "?" before the name without
}

func (s *shelf) fetch(service string, patience time.Duration) error {
	if patience <= 0 {
		s.asked = append(s.asked, "?"+service)
		return errors.New("later")
	}
	s.asked = append(s.asked, service)
	time.Sleep(min(patience, s.takes))
	if patience < s.takes {
		return errors.New("too late")
	}
	if records := s.records[service]; records != nil && s.err == nil {
		s.catalog.Apply(s.catalog.Revision(), records)
	}
	return s.err
}

// newShelf returns an agent that knows the documents of first, and may fetch those of the others.
func newShelf(t *testing.T, first string, takes time.Duration) (*Agent, *shelf) {
	views := catalog.New(quiet)
	s := &shelf{catalog: views, takes: takes, records: map[string][]model.Record{}}
	for _, name := range []string{"shop", "cart"} {
		s.records[name] = append(instances(name, "10.0.0.1:80"), documented(name, func(s *model.Service) { s.Level = 1 }))
	}
	a := New(views, Options{IDC: "bj-a", Fetch: s.fetch})
	t.Cleanup(a.Close)
	views.Replace(1, s.records[first])
	return a, s
}

func TestBeginFetches(t *testing.T) {
	f := func(takes, timeout time.Duration, want string, left time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			a, _ := newShelf(t, "cart", takes)
			defer a.Close()
			begun := time.Now()
			call := &Call{Callee: "shop", Timeout: timeout}
			if got := reasonOf(a.Begin(call)); got != want {
				t.Fatalf("%v, want %q", got, want)
			}
			if waited := time.Since(begun); waited != min(takes, MaxPatience, patienceOf(timeout)) {
				t.Errorf("waited for %v", waited)
			}
			if want == "" && (call.Timeout != left || !call.Begun().Equal(time.Now())) {
				t.Errorf("%v is left, begun at %v of %v", call.Timeout, call.Begun(), time.Now())
			}
		})
	}
	f(30*time.Millisecond, 0, "", 0)
	f(30*time.Millisecond, time.Second, "", 970*time.Millisecond)
	f(30*time.Millisecond, 10*time.Millisecond, ReasonNotSynced, 0)
	f(30*time.Millisecond, 30*time.Millisecond, ReasonDeadline, 0)
	f(time.Minute, 0, ReasonNotSynced, 0)
	f(time.Minute, -1, ReasonNotSynced, 0)
}

func patienceOf(timeout time.Duration) time.Duration {
	switch {
	case timeout < 0:
		return 0
	case timeout == 0:
		return MaxPatience
	}
	return timeout
}

func reasonOf(err error) string {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Reason
	}
	return ""
}

func TestWhatIsNotThere(t *testing.T) {
	a, s := newShelf(t, "cart", 0)
	f := func(callee string, err error, want string) {
		t.Helper()
		s.err, s.asked = err, nil
		if got := reasonOf(a.Begin(&Call{Callee: callee})); got != want || !slices.Equal(s.asked, []string{callee}) {
			t.Errorf("%s, %v: %q, asked for %q", callee, err, got, s.asked)
		}
	}
	f("absent", nil, ReasonUnknownService)
	f("shop", ErrNotFollowed, ReasonUnknownService)
	f("shop", errors.New("away"), ReasonNotSynced)
	f("shop", nil, "")

	never := New(catalog.New(quiet), Options{Fetch: s.fetch})
	defer never.Close()
	s.asked = nil
	if refusal := never.Find("shop", MaxPatience); refusal.Reason != ReasonNotSynced || s.asked != nil {
		t.Errorf("never synced: %v, asked for %q", refusal, s.asked)
	}
}

// A caller's own document, which tells how important it is, is fetched beside its first call.
func TestCallersAreFetchedToo(t *testing.T) {
	a, s := newShelf(t, "shop", 0)
	level := func(caller string) int {
		t.Helper()
		call := &Call{Callee: "shop", Caller: caller}
		if err := a.Begin(call); err != nil {
			t.Fatal(err)
		}
		return call.Level()
	}
	if got := level("cart"); got != defaultLevel || !slices.Equal(s.asked, []string{"?cart"}) {
		t.Errorf("level %d, asked for %q", got, s.asked)
	}
	s.catalog.Apply(2, s.records["cart"])
	if got := level("cart"); got != 1 || len(s.asked) != 1 {
		t.Errorf("level %d, asked for %q", got, s.asked)
	}
	if level(""); len(s.asked) != 1 {
		t.Errorf("without a caller, asked for %q", s.asked)
	}
}

func TestUses(t *testing.T) {
	a, s := newShelf(t, "shop", 0)
	s.catalog.Apply(2, s.records["cart"])
	uses := func() [2]uint64 { return [2]uint64{a.Uses("shop"), a.Uses("cart")} }
	f := func(what string, call *Call, end func(*Call), shop, cart bool) {
		t.Helper()
		before := uses()
		_ = a.Begin(call)
		end(call)
		after := uses()
		if (before[0] != after[0]) != shop || (before[1] != after[1]) != cart {
			t.Errorf("%s: %v, then %v", what, before, after)
		}
	}
	if uses() != [2]uint64{} {
		t.Errorf("before any use: %v", uses())
	}
	pick := func(c *Call) {
		if _, err := a.Pick(c); err != nil {
			t.Error(err)
		}
	}
	f("a request", &Call{Callee: "shop"}, func(c *Call) { c.End(200) }, true, false)
	f("by a service", &Call{Callee: "shop", Caller: "cart"}, func(c *Call) { c.End(200) }, true, true)
	f("refused", &Call{Callee: "shop", Timeout: -1}, func(*Call) {}, true, false)
	f("handed out", &Call{Callee: "cart", HandOut: true}, pick, false, true)
	f("reported", &Call{Callee: "cart", HandOut: true, Unfused: true}, func(c *Call) {
		a.PickAddress(c, s.records["cart"][0].Instance.Address).Report(Outcome{Result: health.OK})
	}, false, true)
	if a.Uses("absent") != 0 {
		t.Error("an unknown one is used")
	}
}
