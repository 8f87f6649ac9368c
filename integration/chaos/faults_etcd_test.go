package chaos

import (
	"fmt"
	"syscall"
	"time"
)

// everywhere is how soon a change is known by all agents, when etcd has just had trouble; else it takes under a second.
const everywhere = 5 * time.Second

// untilEverywhere measures how long a change takes to be known at all sites, or at some.
func (r *trial) untilEverywhere(what string, revision int64, sites ...*site) {
	r.t.Helper()
	if len(sites) == 0 {
		sites = r.sites
	}
	r.measure(what, func() error { return knows(revision, sites...) })
}

func etcdFaults() []fault {
	noRequest := noneFails("not one request fails")
	return []fault{
		{
			name:     "each member of etcd is killed and started again, one after another",
			promises: []promise{noRequest, within("a change", "a change meanwhile is known everywhere", everywhere)},
			breaks: func(r *trial) {
				for _, m := range r.etcd.members {
					m.kill()
					r.untilEverywhere("a change", r.change())
					r.hold(2 * time.Second)
					r.etcd.startAll()
				}
			},
		},
		{
			name:  "all of etcd is killed and started again",
			short: true,
			promises: []promise{noRequest, within("a change", "a change afterwards is known everywhere", everywhere),
				finds("the configuration's age tells")},
			breaks: func(r *trial) {
				r.etcd.killAll()
				r.hold(12 * time.Second)
				r.finds("the configuration's age tells", r.tellsAge())
				r.etcd.startAll()
				r.untilEverywhere("a change", r.change())
			},
		},
		{
			name:     "two of three members of etcd are killed: no quorum",
			promises: []promise{noRequest, within("a change", "a change afterwards is known everywhere", everywhere)},
			breaks: func(r *trial) {
				leader, follower := r.etcd.mustLead()
				leader.kill()
				follower.kill()
				r.hold(6 * time.Second)
				r.etcd.startAll()
				r.untilEverywhere("a change", r.change())
			},
		},
		{
			name:     "each member of etcd is stopped and continued, one after another",
			promises: []promise{noRequest, within("a change", "a change meanwhile is known everywhere", silenceEnds)},
			breaks: func(r *trial) {
				for _, m := range r.etcd.members {
					m.signal(syscall.SIGSTOP)
					r.untilEverywhere("a change", r.change())
					m.signal(syscall.SIGCONT)
					r.etcd.mustBeWhole()
				}
			},
		},
		{
			name:     "etcd's leader is cut off from the other members",
			promises: []promise{noRequest, within("a change", "a change meanwhile is known everywhere", silenceEnds)},
			breaks: func(r *trial) {
				leader, _ := r.etcd.mustLead()
				r.etcd.isolate(leader)
				r.untilEverywhere("a change", r.change())
				r.etcd.rejoin(leader)
			},
		},
	}
}

// silenceEnds is how soon a change is known where etcd's connections stand and say nothing: they are asked for a sign of life
// each 10 s, and given up after 25 s.
const silenceEnds = 30 * time.Second

// tellsAge is nil if the configuration's age has grown at all agents and DNSs, as a metric.
func (r *trial) tellsAge() error {
	for _, s := range r.sites {
		for name, face := range s.faces() {
			age, err := face.metric("ufc_config_age_seconds")
			if err == nil && age < 1 {
				err = fmt.Errorf("the configuration is said to be %.1f s old", age)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}
