package mesh

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// hub returns the decisions of an attachment without a store, a hold on it, and its log.
func hub(t *testing.T) (*Mesh, *bytes.Buffer) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	a := &attachment{Catalog: catalog.New(logger)}
	a.settings.Store(&Config{AgentID: "a1", Host: "h1", IDC: "bj-a"})
	a.decisions = newDecisions(a, nil, logger)
	t.Cleanup(func() { a.decisions.close() })
	return &Mesh{attachment: a}, &log
}

// heard collects what a listener is told.
type heard struct {
	mu       sync.Mutex
	services []string
}

func (h *heard) hear(d health.Decision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.services = append(h.services, d.Service)
}

func (h *heard) all() []string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.services)
}

func TestTheNewestListenerHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := hub(t)
		var first, second heard
		take := func(service string) {
			m.decisions.take(health.Decision{Kind: health.Reopened, Service: service})
			synctest.Wait()
		}
		take("nobody")
		stopFirst := m.Listen(first.hear)
		take("a")
		stopSecond := m.Listen(second.hear)
		take("b")
		stopFirst()
		take("c")
		stopThird := m.Listen(first.hear) // a configuration that is tried, and fails
		take("d")
		stopThird()
		take("e")
		stopSecond()
		stopSecond()
		take("nobody")
		if got := first.all(); !slices.Equal(got, []string{"a", "d"}) {
			t.Errorf("the first heard %q", got)
		}
		if got := second.all(); !slices.Equal(got, []string{"b", "c", "e"}) {
			t.Errorf("the second heard %q", got)
		}
	})
}

func TestASlowListenerHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, log := hub(t)
		var got heard
		block := make(chan struct{})
		m.Listen(func(d health.Decision) {
			<-block
			got.hear(d)
		})
		m.decisions.take(health.Decision{Kind: health.Reopened, Service: "first"})
		synctest.Wait()
		m.decisions.take(health.Decision{Kind: health.Reopened, Service: "lost"})
		m.decisions.take(health.Decision{Kind: health.Reopened, Service: "lost"})
		for range queueSize - 1 {
			m.decisions.take(health.Decision{Kind: health.Reopened, Service: "kept"})
		}
		m.decisions.take(health.Decision{Kind: health.Reopened, Service: "last"})
		close(block)
		services := got.all()
		if len(services) != queueSize+1 || services[0] != "first" || services[queueSize] != "last" || slices.Contains(services, "lost") {
			t.Errorf("%d heard: %q", len(services), services)
		}
		if !strings.Contains(log.String(), "decisions=2") {
			t.Errorf("the log: %s", log)
		}
	})
}

func TestCloseWaitsForWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, log := hub(t)
		var got heard
		m.Listen(func(d health.Decision) {
			time.Sleep(time.Second)
			got.hear(d)
		})
		for range 3 {
			m.decisions.take(health.Decision{Kind: health.Banned, Service: "shop"})
		}
		m.decisions.close()
		m.decisions.take(health.Decision{Kind: health.Banned, Service: "shop"})
		if heard := got.all(); len(heard) != 3 || strings.Count(log.String(), "instance banned") != 3 {
			t.Errorf("%q heard; the log: %s", heard, log)
		}
	})
}

func TestWhatWebhooksAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := hub(t)
		address := netip.MustParseAddrPort("10.0.0.1:80")
		service := model.DefaultService("shop")
		service.Ban.Webhook = &model.Webhook{URL: "http://a.test"}
		m.Catalog.Apply(1, []model.Record{
			{Kind: model.KindService, Name: "shop", Service: service},
			{Kind: model.KindInstances, Name: "shop", Address: address.String(), Instance: &model.Instance{Address: address}},
		})
		hook := m.webhook("shop")
		if hook == nil || hook.URL != "http://a.test" || m.webhook("unheard-of") != nil {
			t.Errorf("webhook %+v", hook)
		}
		other := netip.MustParseAddrPort("10.0.0.1:81")
		if !m.listed("shop", address) || m.listed("shop", other) || m.listed("unheard-of", address) {
			t.Error("who is listed")
		}
		if who := m.identity(); who.Agent != "a1" || who.Host != "h1" || who.IDC != "bj-a" {
			t.Errorf("%+v", who)
		}
	})
}

func TestStopWaitsForACallUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := hub(t)
		f := func(takes, want time.Duration) {
			t.Helper()
			stop := m.Listen(func(health.Decision) { time.Sleep(takes) })
			m.decisions.take(health.Decision{Kind: health.Reopened})
			synctest.Wait()
			begun := time.Now()
			if stop(); time.Since(begun) != want {
				t.Errorf("a call of %s: waited for %s", takes, time.Since(begun))
			}
			if stop(); takes < stopPatience && time.Since(begun) != want {
				t.Errorf("a call of %s: the second stop waited, too", takes)
			}
			time.Sleep(takes) // its end
		}
		f(time.Second, time.Second)
		f(time.Hour, stopPatience)
	})
}

// A listener that stops itself would wait for itself.
func TestAListenerMayStopItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := hub(t)
		var stop func()
		calls := 0
		stop = m.Listen(func(health.Decision) {
			calls++
			stop()
		})
		for range 2 {
			m.decisions.take(health.Decision{Kind: health.Reopened})
		}
		time.Sleep(time.Minute)
		if synctest.Wait(); calls != 1 {
			t.Errorf("%d calls", calls)
		}
	})
}

// A listener that reloads or stops the program waits for the end of what it is called by.
func TestAListenerMayEndTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := hub(t)
		begun, calls := time.Now(), 0
		m.Listen(func(health.Decision) {
			if calls++; calls == 1 {
				m.decisions.close()
			}
		})
		for range 2 {
			m.decisions.take(health.Decision{Kind: health.Reopened})
		}
		synctest.Wait()
		time.Sleep(stopPatience)
		m.decisions.close()
		if took := time.Since(begun); took > 2*stopPatience || calls != 2 {
			t.Errorf("%d calls, and %s until the end", calls, took)
		}
	})
}
