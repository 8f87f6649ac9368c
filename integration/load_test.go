package integration

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// load is traffic in the background, none of which may fail.
type load struct {
	t        testing.TB
	stopping chan struct{}
	workers  sync.WaitGroup

	mu       sync.Mutex
	done     int
	failures []string // the first few
	failed   int
}

// startLoad runs request in so many loops until stop.
func startLoad(t testing.TB, loops int, request func() error) *load {
	l := &load{t: t, stopping: make(chan struct{})}
	for range loops {
		l.workers.Go(func() {
			for {
				select {
				case <-l.stopping:
					return
				default:
				}
				l.count(request())
				time.Sleep(time.Millisecond) // leaves the other processes some of the machine
			}
		})
	}
	return l
}

func (l *load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done++
	if err == nil {
		return
	}
	l.failed++
	if len(l.failures) < 5 {
		l.failures = append(l.failures, time.Now().Format("15:04:05.000 ")+err.Error())
	}
}

// stop ends the load and fails the test if a request failed, or if there were hardly any.
func (l *load) stop(what string) {
	l.t.Helper()
	close(l.stopping)
	l.workers.Wait()
	if l.done < 50 {
		l.t.Errorf("%s: only %d requests under way, which proves nothing", what, l.done)
	}
	if l.failed > 0 {
		l.t.Errorf("%s: %d of %d failed, the first:\n%s", what, l.failed, l.done, strings.Join(l.failures, "\n"))
	}
	l.t.Logf("%s: %d requests, %d failed", what, l.done, l.failed)
}

// requests is load by HTTP through the agent, over connections that are kept and, one in three, over new ones.
func (m *mesh) requests(service string) *load {
	var turn atomic.Int64
	return startLoad(m.t, 3, func() error {
		req, err := m.request(service, "/load")
		if err != nil {
			return err
		}
		req.Close = turn.Add(1)%3 == 0
		a, err := m.do(req)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", a.status, a.body)
		}
		return err
	})
}

// queries is load on the DNS, over UDP, each query asked once.
func (m *mesh) queries(service string) *load {
	return startLoad(m.t, 2, func() error {
		addresses, err := m.lookup(service)
		if err == nil && len(addresses) == 0 {
			err = fmt.Errorf("no address of %s", service)
		}
		return err
	})
}

// lookup asks the DNS for a service's IPv4 addresses.
func (m *mesh) lookup(service string) ([]string, error) {
	query := new(dns.Msg).SetQuestion(service+"."+zone+".", dns.TypeA)
	client := dns.Client{Timeout: 2 * time.Second}
	response, _, err := client.Exchange(query, fmt.Sprintf("127.0.0.1:%d", m.dns))
	if err != nil {
		return nil, err
	}
	if response.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("%s: %s", service, dns.RcodeToString[response.Rcode])
	}
	var addresses []string
	for _, record := range response.Answer {
		if a, ok := record.(*dns.A); ok {
			addresses = append(addresses, a.A.String())
		}
	}
	return addresses, nil
}
