package chaos

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What etcd loses. Agents and DNSs run with protect 50% here, and to the end: these rows are the last ones.
func lossFaults() []fault {
	return []fault{
		{
			name: "etcd loses its data and comes back empty (protect 50%)",
			promises: []promise{
				noneFails("not one request fails"),
				within("held back", "all agents say what they hold back", 30*time.Second),
				within("let go", "nothing is held back when the records are there again,", 30*time.Second)},
			prepares: (*trial).startProtected,
			breaks: func(r *trial) {
				r.etcd.killAll()
				r.etcd.lose()
				r.etcd.startAll()
				r.measure("held back", func() error { return r.held(true) })
				r.hold(6 * time.Second)
				r.apply(documents)
				for _, b := range r.backends {
					r.etcd.write(clientv3.OpPut(b.key(), b.document(r.homes[b.name].name)))
				}
				r.measure("let go", func() error { return r.held(false) })
			},
		},
		{
			name: "all instances but one are deregistered at once, and that is confirmed (protect 50%)",
			promises: []promise{
				noneFails("not one request fails"),
				finds("until then all of them serve"),
				within("confirmed", "a word lets it go", 5*time.Second)},
			breaks: func(r *trial) {
				r.deregisterMost()
			},
		},
	}
}

// startProtected starts agents and DNSs anew, with protect.
func (r *trial) startProtected() {
	for _, s := range r.sites {
		s.protect = true
		s.agent.kill()
		s.startAgent()
		s.dns.kill()
		s.startDNS()
	}
}

// held is nil if all agents and DNSs say that they hold instances back; or, if not wanted, that they hold none.
func (r *trial) held(wanted bool) error {
	time.Sleep(150 * time.Millisecond) // debug queries are limited
	for _, s := range r.sites {
		for name, face := range s.faces() {
			var sync struct{ Held struct{ Instances int } }
			if err := face.ask("sync_info", &sync); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if (sync.Held.Instances > 0) != wanted {
				return fmt.Errorf("%s holds %d instances back", name, sync.Held.Instances)
			}
		}
	}
	return nil
}

// deregisterMost takes all instances but the first site's first one out of etcd at once, confirms that when they have served
// for a while nevertheless, and registers them again.
func (r *trial) deregisterMost() {
	var ops []clientv3.Op
	most := r.backends[1:]
	for _, b := range most {
		ops = append(ops, clientv3.OpDelete(b.key()))
	}
	r.etcd.write(ops...)
	r.measure("held back", func() error { return r.held(true) })
	r.hold(3 * time.Second)
	_, by := r.ledger.recent(time.Now().Add(-time.Second))
	var err error
	for _, b := range most {
		if by[b.name] == 0 {
			err = fmt.Errorf("%s isn't asked", b.name)
		}
	}
	r.finds("until then all of them serve", err)
	if _, err := run(r.t, r.cli(), "", "bin/caddy", "ufc", "confirm", "shop"); err != nil {
		r.t.Error(err)
	}
	r.measure("confirmed", func() error { return r.held(false) })
	for _, b := range most {
		r.mustKnow(b, 100*time.Millisecond, r.sites...)
	}
	r.hold(2 * time.Second)
	for _, b := range most {
		r.members.add(b.name, b.ip())
		r.etcd.write(clientv3.OpPut(b.key(), b.document(r.homes[b.name].name)))
	}
}
