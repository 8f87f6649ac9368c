package integration

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// hugeCount is how many keys one service has here: as many as the whole of a large mesh.
const hugeCount = 200_000

// A service of 200,000 keys, good and then all bad, costs the others nothing that they would notice: their requests are
// answered, and their changes are seen, while it is written; and what agents tell and keep of the bad ones is bounded.
func TestFloodOfKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes 400,000 keys")
	}
	p := startPoisoned(t)
	p.ask("shop-web", "/").must(t, http.StatusOK, "")
	idle := p.memoryOf()

	during := p.watchOthers()
	p.writeHuge("good", `{"address":%q,"idc":"bj-a"}`)
	during.stop("while 200,000 good keys were written", p.caught())
	if info, _ := p.sync(p.agent); info.Instances <= hugeCount || info.Count != 0 {
		t.Errorf("the agent holds %d instances, and refuses %d", info.Instances, info.Count)
	}
	full := p.memoryOf()
	t.Logf("memory of the agent: %d MiB before, %d MiB with them", idle>>20, full>>20)

	logged := len(p.caddy.output())
	during = p.watchOthers()
	p.writeHuge("bad", `{"address":%q,"weight":-1}`)
	during.stop("while all of them became bad", p.caught())
	info, size := p.sync(p.agent)
	if info.Instances <= hugeCount || info.Count != hugeCount || len(info.Rejected) > 1000 || size > 1<<20 {
		t.Errorf("the agent holds %d instances, refuses %d, and tells so in %d rows, %d bytes", info.Instances, info.Count, len(info.Rejected), size)
	}
	text := p.caddy.output()[logged:]
	if lines := strings.Count(text, "\n"); lines > 1000 || len(text) > 1<<20 {
		t.Errorf("the log has grown by %d lines, %d bytes", lines, len(text))
	}
	bad := p.memoryOf()
	t.Logf("memory with all refused: %d MiB; sync_info has %d bytes, the log grew by %d", bad>>20, size, len(text))
	if bad > full+128<<20 {
		t.Errorf("memory grew from %d MiB to %d MiB", full>>20, bad>>20)
	}
	p.ask("shop-web", "/").must(t, http.StatusOK, "")
}

// memoryOf is the agent's memory when it has settled.
func (p *poisoned) memoryOf() int64 {
	time.Sleep(2 * time.Second)
	return p.caddy.memory("VmRSS")
}

// writeHuge writes a value to all keys of the service "huge".
func (p *poisoned) writeHuge(what, format string) {
	p.t.Helper()
	began := time.Now()
	const batch = 128 // as many as etcd takes in a transaction
	for start := 0; start < hugeCount; start += batch {
		var operations []clientv3.Op
		for n := start; n < min(start+batch, hugeCount); n++ {
			address := fmt.Sprintf("10.%d.%d.%d:80", n>>16+1, n>>8&255, n&255)
			operations = append(operations, p.put("instances/huge/"+address, fmt.Sprintf(format, address)))
		}
		p.commit(operations...)
	}
	p.t.Logf("%d %s keys written in %s", hugeCount, what, time.Since(began).Round(time.Millisecond))
}

// caught waits until both programs have taken up all that was written, and returns how long that took.
func (p *poisoned) caught() time.Duration {
	p.t.Helper()
	began := time.Now()
	revision := p.revision()
	for _, port := range p.ports() {
		eventually(p.t, 2*time.Minute, func() error {
			if info, _ := p.sync(port); info.Revision < revision {
				time.Sleep(200 * time.Millisecond) // as often as queries are answered
				return fmt.Errorf("at revision %d, not %d", info.Revision, revision)
			}
			return nil
		})
	}
	return time.Since(began)
}

// others are what is measured of the other services meanwhile: how long requests take, and changes until they are seen.
type others struct {
	p                 *poisoned
	end               func() // returns when nothing is measured any more
	quit, done        chan struct{}
	requests, changes []time.Duration
}

func (p *poisoned) watchOthers() *others {
	o := &others{p: p, quit: make(chan struct{}), done: make(chan struct{})}
	o.end = sync.OnceFunc(func() {
		close(o.quit)
		<-o.done
	})
	p.t.Cleanup(o.end)
	go o.run()
	return o
}

func (o *others) run() {
	defer close(o.done)
	for number := 0; ; number++ {
		name := fmt.Sprintf("new-%d-%d", time.Now().UnixNano(), number)
		written := time.Now()
		if _, err := o.p.client.Put(context.Background(), o.p.root+"instances/"+name+"/"+o.p.one.address, fmt.Sprintf(`{"address":%q}`, o.p.one.address)); err != nil {
			o.p.t.Error(err)
			return
		}
		for seen := false; !seen; {
			select {
			case <-o.quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
			began := time.Now()
			a, err := o.p.get("shop-web", "/")
			if err != nil || a.status != http.StatusOK {
				o.p.t.Errorf("a request of another service: %d, %v", a.status, err)
				return
			}
			o.requests = append(o.requests, time.Since(began))
			a, err = o.p.get(name, "/")
			seen = err == nil && a.status == http.StatusOK
		}
		o.changes = append(o.changes, time.Since(written))
	}
}

func (o *others) stop(when string, caught time.Duration) {
	o.p.t.Helper()
	o.end()
	slices.Sort(o.requests)
	slices.Sort(o.changes)
	if len(o.requests) < 100 || len(o.changes) < 3 {
		o.p.t.Fatalf("%s: only %d requests and %d changes", when, len(o.requests), len(o.changes))
	}
	at := func(all []time.Duration, share float64) time.Duration {
		return all[min(int(share*float64(len(all))), len(all)-1)].Round(100 * time.Microsecond)
	}
	o.p.t.Logf("%s: %d requests of another service, median %s, 99 %% %s, longest %s; %d changes of others seen, median %s, longest %s; caught up %s after the end",
		when, len(o.requests), at(o.requests, .5), at(o.requests, .99), at(o.requests, 1), len(o.changes), at(o.changes, .5), at(o.changes, 1),
		caught.Round(time.Millisecond))
	// On a busy machine all takes longer. It would be minutes if changes were taken one by one.
	if longest := at(o.changes, 1); longest > 20*time.Second {
		o.p.t.Errorf("%s: a change of another service was seen after %s", when, longest)
	}
	if slow := at(o.requests, .99); slow > 2*time.Second {
		o.p.t.Errorf("%s: requests of another service took %s", when, slow)
	}
}
