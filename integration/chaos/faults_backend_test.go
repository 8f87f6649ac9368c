package chaos

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What breaks in the service, and in what etcd says of it.
func backendFaults() []fault {
	return []fault{
		{
			name:  "an instance is killed and started again",
			short: true,
			promises: []promise{
				noneFails("no new request and no GET fails (POSTs in flight on it may)", is(posts, before("gone"))),
				within("banned", "banned at its first proof:", 500*time.Millisecond),
				finds("the DNS beside the agent names it no more within 2 s")},
			breaks: func(r *trial) {
				victim := r.direct(r.sites[0])
				r.mark("killed")
				victim.kill()
				r.mark("gone")
				r.untilBanned(r.sites[0], victim, "killed")
				r.finds("the DNS beside the agent names it no more within 2 s", r.namesNoMore(r.sites[0], victim, 2*time.Second))
				r.hold(2 * time.Second)
				victim.start()
			},
		},
		{
			name:  "an instance is stopped and continued",
			short: true,
			promises: []promise{
				noneFails(hungFails, is(requests, atFirst, before("banned"))),
				within("banned", "banned", 6*time.Second)},
			breaks: func(r *trial) {
				victim := r.direct(r.sites[0])
				r.mark("stopped")
				victim.signal(syscall.SIGSTOP)
				r.untilBanned(r.sites[0], victim, "stopped")
				r.hold(4 * time.Second)
				victim.signal(syscall.SIGCONT)
			},
		},
		{
			name: "an instance is cut off from the agents (silent)",
			promises: []promise{
				noneFails(hungFails, is(requests, atFirst, before("banned"))),
				within("banned", "banned", 6*time.Second)},
			breaks: func(r *trial) { r.cutOffInstance(silent) },
		},
		{
			name: "an instance is cut off from the agents (refused)",
			promises: []promise{
				noneFails("no new request and no GET fails (POSTs in flight on it may)", is(posts, before("gone"))),
				within("banned", "banned at its first proof:", 500*time.Millisecond)},
			breaks: func(r *trial) { r.cutOffInstance(refusing) },
		},
		{
			name:     "all instances of an IDC are killed and started again",
			promises: []promise{noneFails("nothing fails that is sent a quarter of a second later: another IDC serves", is(requests, atFirst, before("noticed")))},
			breaks: func(r *trial) {
				victims := r.at(r.sites[0])
				for _, b := range victims {
					b.die()
				}
				// Until then a request may use up its attempts on three instances that nobody knows to be dead.
				r.marks["noticed"] = time.Now().Add(250 * time.Millisecond)
				r.hold(4 * time.Second)
				for _, b := range victims {
					b.revive()
				}
			},
		},
		{
			name:     "every instance is replaced by a new one",
			short:    true,
			promises: []promise{noneFails("not one request fails, and none gets to one that went over 1 s ago")},
			breaks:   func(r *trial) { r.replaceAll() },
		},
		{
			name:     "etcd's leader and an instance are killed while the agent and the DNS there are reloaded",
			promises: []promise{noneFails("no new request and no GET fails, but POSTs in flight or on an idle connection", is(posts, before("gone")), is([]kind{kept}, resetAtFirst))},
			breaks:   func(r *trial) { r.breakMuch(r.sites[0]) },
		},
		{
			name:     "malformed records of the service, of an instance, of the topology",
			promises: []promise{noneFails("not one request fails"), finds("each is named by all agents, and its last good version stays")},
			breaks: func(r *trial) {
				r.finds("each is named by all agents, and its last good version stays", r.malform())
			},
		},
	}
}

// hungFails is what an instance costs that takes requests and answers none. Only time tells, so what is sent to it meanwhile
// waits for its time limit; then the retry budget (10, and one for ten requests) is soon used up.
const hungFails = "nothing fails but what is sent before its ban: POSTs, and GETs beyond the retry budget"

// direct returns an instance of a site without a link before it: one that is killed looks like one.
func (r *trial) direct(s *site) *backend {
	for _, b := range r.at(s) {
		if b.link == nil {
			return b
		}
	}
	r.t.Fatalf("%s has no instance without a link", s.name)
	return nil
}

// cutOffInstance cuts the link of an instance of the first site, and mends it.
func (r *trial) cutOffInstance(how state) {
	for _, b := range r.at(r.sites[0]) {
		if b.link == nil {
			continue
		}
		r.mark("cut")
		b.link.set(how)
		r.mark("gone")
		r.untilBanned(r.sites[0], b, "cut")
		r.hold(3 * time.Second)
		b.link.set(open)
		return
	}
	r.t.Fatal("there is no instance with a link")
}

// untilBanned waits until a site's agent bans an instance, and notes when it did, by its own word, after the mark.
func (r *trial) untilBanned(s *site, b *backend, mark string) {
	r.t.Helper()
	face := s.faces()["agent "+s.name]
	_, err := until(20*time.Second, func() error {
		time.Sleep(150 * time.Millisecond) // debug queries are limited
		bans, err := face.bans("shop")
		for _, ban := range bans {
			if ban.Backend == b.address {
				r.marks["banned"] = ban.Since
				r.note("banned", ban.Since.Sub(r.marks[mark]))
				return nil
			}
		}
		return fmt.Errorf("%s is not banned, %v", b.name, err)
	})
	if err != nil {
		r.t.Log(err)
	}
}

// namesNoMore is nil if the site's DNS doesn't name the instance, a while from now.
func (r *trial) namesNoMore(s *site, b *backend, known time.Duration) error {
	time.Sleep(known)
	since := time.Now()
	time.Sleep(time.Second)
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	for _, one := range r.ledger.now.samples {
		if one.kind == lookup && one.site == s.name && one.by == b.name && one.sent.After(since) {
			return fmt.Errorf("%s is named %s after its ban", b.name, rounded(one.sent.Sub(r.marks["banned"])))
		}
	}
	return nil
}

// report tells that a call to a backend failed, as a program in bypass mode does.
func (f face) report(service, backend, result string) error {
	form := url.Values{"service": {service}, "backend": {backend}, "result": {result}}
	where := fmt.Sprintf("http://127.0.0.1:%d/bypass?command=callback", f.query)
	resp, err := asking.Post(where, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("callback: status %d", resp.StatusCode)
	}
	return nil
}

// replaceAll replaces the instances as a rollout does: a new one is registered, an old one is deregistered, and ends a second
// after that.
func (r *trial) replaceAll() {
	for _, s := range r.sites {
		for _, old := range r.at(s) {
			// The newcomer takes its turn with the link, for the faults that need one.
			r.register(r.newBackend(s, old.link != nil), s)
			r.deregister(old, time.Second, r.sites...)
			time.Sleep(time.Second)
			old.signal(syscall.SIGTERM)
			if _, err := until(5*time.Second, old.stillRuns); err != nil {
				r.t.Error(err)
			}
		}
	}
}

// breakMuch breaks several parts at once.
func (r *trial) breakMuch(s *site) {
	leader, _ := r.etcd.mustLead()
	victim := r.direct(s)
	leader.kill()
	victim.kill()
	r.mark("gone")
	times := r.times(20)
	for range times {
		if err := errors.Join(s.reloadAgent(), s.reloadDNS()); err != nil {
			r.t.Error(err)
		}
	}
	r.remark("%d reloads of each", times)
	r.hold(2 * time.Second)
	victim.start()
	r.etcd.startAll()
}

// malform writes records that can't be read, waits until all agents and DNSs say so, and puts good ones in their places.
func (r *trial) malform() error {
	victim := r.direct(r.sites[0])
	keys := []string{prefix + "/config/services/shop", victim.key(), prefix + "/config/topology"}
	good := map[string]string{}
	for _, key := range keys {
		answer, err := r.etcd.client.Get(r.t.Context(), key)
		if err != nil || len(answer.Kvs) != 1 {
			return fmt.Errorf("%s: %d records, %v", key, len(answer.Kvs), err)
		}
		good[key] = string(answer.Kvs[0].Value)
		r.etcd.write(clientv3.OpPut(key, `{"timeouts": `))
	}
	var failed error
	for _, s := range r.sites {
		for name, face := range s.faces() {
			if _, err := until(5*time.Second, func() error {
				time.Sleep(150 * time.Millisecond)
				var sync struct{ Rejected []any }
				if err := face.ask("sync_info", &sync); err != nil {
					return err
				}
				if len(sync.Rejected) != len(keys) {
					return fmt.Errorf("%s names %v", name, sync.Rejected)
				}
				return nil
			}); err != nil {
				failed = err
			}
		}
	}
	r.hold(3 * time.Second)
	if _, by := r.ledger.recent(time.Now().Add(-time.Second)); by[victim.name] == 0 && failed == nil {
		failed = fmt.Errorf("%s, whose last good record should stay, isn't asked", victim.name)
	}
	for key, value := range good {
		r.etcd.write(clientv3.OpPut(key, value))
	}
	return failed
}
