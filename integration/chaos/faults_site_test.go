package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What breaks at one data centre: its way to etcd, its agent, its DNS, its disk.
func siteFaults() []fault {
	noRequest := noneFails("not one request fails")
	return []fault{
		{
			name:  "an IDC is cut off from etcd (silent), which is changed and compacted meanwhile",
			short: true,
			promises: []promise{noRequest, within("the others know a change", "the others know a change", time.Second),
				within("a change", "it is known there after the cut's end", 10*time.Second)},
			breaks: func(r *trial) { r.cutOff(silent, 20*time.Second) },
		},
		{
			name: "an IDC is cut off from etcd (refused), which is changed and compacted meanwhile",
			promises: []promise{noRequest, within("the others know a change", "the others know a change", time.Second),
				within("a change", "it is known there after the cut's end", everywhere)},
			breaks: func(r *trial) { r.cutOff(refusing, 6*time.Second) },
		},
		{
			name: "an agent is killed and started, again and again",
			promises: []promise{
				noneFails("nothing fails but what is sent to it until it listens again", is(requests, atFirst, while("agent"))),
				within("the first answer", "then it answers", time.Second)},
			breaks: func(r *trial) {
				times := r.times(10)
				for range times {
					r.killAgent(r.sites[0])
					r.firstAnswer(r.sites[0])
				}
				r.remark("%d times", times)
				r.hold(2 * time.Second)
			},
		},
		{
			name:     "an agent is ended by SIGTERM, and started again",
			promises: []promise{noneFails("nothing fails but what is sent to it from then on until it listens again: what is in flight is answered", is(requests, atFirst, sentWhile("agent")))},
			breaks: func(r *trial) {
				s := r.sites[0]
				r.gone("agent")
				s.agent.signal(syscall.SIGTERM)
				if _, err := until(20*time.Second, s.agent.stillRuns); err != nil {
					r.t.Error(err)
				}
				s.startAgent()
				r.back("agent")
				r.hold(2 * time.Second)
			},
		},
		{
			name:     "an agent is stopped for 2 s and continued",
			promises: []promise{noneFails("nothing fails but POSTs that are under way", is(posts, atFirst, while("agent")))},
			breaks:   func(r *trial) { r.stop(r.sites[0].agent) },
		},
		{
			name:     "a DNS is killed and started again",
			promises: []promise{noneFails("nothing fails but what is asked of it until it listens again", is(lookups, atFirst, while("DNS")))},
			breaks: func(r *trial) {
				r.killDNS(r.sites[0])
				r.hold(2 * time.Second)
			},
		},
		{
			name:     "a DNS is stopped for 1 s and continued",
			promises: []promise{noneFails("no question is lost, and nothing else fails")},
			breaks: func(r *trial) {
				dns := r.sites[0].dns
				dns.signal(syscall.SIGSTOP)
				time.Sleep(time.Second)
				dns.signal(syscall.SIGCONT)
				r.hold(2 * time.Second)
			},
		},
		{
			name:  "an agent and a DNS are killed, and start while all of etcd is gone",
			short: true,
			promises: []promise{
				noneFails("they serve from their snapshots as soon as they listen, and nobody else notices",
					is(requests, atFirst, while("agent")), is(lookups, atFirst, while("DNS"))),
				within("a change", "a change afterwards is known everywhere", everywhere)},
			breaks: func(r *trial) {
				r.etcd.killAll()
				r.killAgent(r.sites[0])
				r.killDNS(r.sites[0])
				r.hold(4 * time.Second)
				r.etcd.startAll()
				r.untilEverywhere("a change", r.change())
			},
		},
		{
			name:     "an agent's configuration is reloaded again and again",
			short:    true,
			promises: []promise{noneFails("no request is dropped but a POST that meets the close of its idle connection", is([]kind{kept}, resetAtFirst)), finds("bans survive")},
			breaks: func(r *trial) {
				s := r.sites[0]
				r.finds("bans survive", r.overReloads("agent", s.reloadAgent))
			},
		},
		{
			name:     "a DNS is reloaded again and again, by SIGUSR1",
			promises: []promise{noneFails("no question is dropped"), finds("bans survive")},
			breaks: func(r *trial) {
				s := r.sites[0]
				r.finds("bans survive", r.overReloads("DNS", s.reloadDNS))
			},
		},
		{
			name: "the disk of the snapshots is full",
			promises: []promise{
				noneFails("nothing fails but what is sent to the agent that is killed", is(requests, atFirst, while("agent"))),
				finds("the last snapshot stays whole, and the agent starts from it without etcd"),
				within("a new snapshot", "a new one is written when there is room", 15*time.Second)},
			possible: func(w *world) error {
				if !w.sites[0].small {
					return errors.New("a small file system can't be mounted here")
				}
				return nil
			},
			breaks: func(r *trial) { r.fillDisk(r.sites[0]) },
		},
	}
}

// resetAtFirst excuses a connection that was closed by the first site's agent, instead of an answer.
func resetAtFirst(r *trial, s *sample) bool {
	return atFirst(r, s) && s.verdict == lost && (strings.HasSuffix(s.why, ": EOF") || strings.Contains(s.why, "connection reset"))
}

// killAgent kills an agent and starts it again.
func (r *trial) killAgent(s *site) {
	r.gone("agent")
	s.agent.kill()
	began := time.Now()
	s.startAgent()
	r.back("agent")
	r.note("listens", time.Since(began))
}

// killDNS kills a DNS and starts it again.
func (r *trial) killDNS(s *site) {
	r.gone("DNS")
	s.dns.kill()
	s.startDNS()
	r.back("DNS")
}

// firstAnswer measures how long an agent that has just started lets a program wait, and who asks for its memory.
func (r *trial) firstAnswer(s *site) {
	began := time.Now()
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/first", s.ports.agent), nil)
	if err == nil {
		req.Header.Set("X-Ufc-Service-Name", "shop")
		_, err = answerOf(req)
	}
	var memory struct{ Revision int64 }
	err = errors.Join(err, s.faces()["agent "+s.name].ask("sync_info", &memory))
	if err != nil {
		r.t.Errorf("the first answer: %v", err)
	}
	r.note("the first answer", time.Since(began))
}

// stop stops an agent for 2 s, and continues it.
func (r *trial) stop(agent *process) {
	r.gone("agent")
	agent.signal(syscall.SIGSTOP)
	time.Sleep(2 * time.Second)
	agent.signal(syscall.SIGCONT)
	r.back("agent")
	r.hold(2 * time.Second)
}

// cutOff cuts the first site off from etcd for a while, in which one of its instances is replaced, and etcd forgets how.
func (r *trial) cutOff(how state, length time.Duration) {
	cut, other := r.sites[0], r.sites[1]
	cut.cut(how)
	old := r.direct(cut)
	r.register(r.newBackend(cut, false), cut)
	gone := r.deregister(old, time.Second, other)
	r.untilEverywhere("the others know a change", gone, other)
	last := r.change()
	r.etcd.compact()
	r.hold(length)
	if knows(gone, cut) == nil {
		r.t.Error("the site that is cut off knows the change, which proves nothing")
	}
	cut.cut(open)
	r.untilEverywhere("a change", last, cut)
	r.mustKnow(old, 100*time.Millisecond, cut)
	r.hold(2 * time.Second)
	old.kill()
}

// overReloads reloads the first site's agent or DNS many times. The error says that an instance of the service lame, banned
// before because it refuses, isn't banned afterwards.
func (r *trial) overReloads(which string, reload func() error) error {
	s := r.sites[0]
	face := s.faces()[which+" "+s.name]
	if err := r.makeLame(face); err != nil {
		return err
	}
	times := r.times(100)
	if which == "DNS" {
		times = max(times/2, 5)
	}
	for n := range times {
		if err := reload(); err != nil {
			return fmt.Errorf("reload %d: %w", n, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.remark("%d reloads", times)
	bans, err := face.bans("lame")
	if err == nil && len(bans) == 0 {
		err = errors.New("nobody is banned after the reloads")
	}
	return err
}

// makeLame has instances of the service lame banned: they refuse, as their port is nobody's.
func (r *trial) makeLame(f face) error {
	_, err := until(20*time.Second, func() error {
		if err := f.report("lame", "127.0.0.1:1", "connect_error"); err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
		if bans, err := f.bans("lame"); err != nil || len(bans) == 0 {
			return fmt.Errorf("nobody is banned, %v", err)
		}
		return nil
	})
	return err
}

// fillDisk fills a site's small disk, has a change to write, and starts the agent without etcd.
func (r *trial) fillDisk(s *site) {
	path := filepath.Join(s.data, "agent.snapshot")
	whole, err := os.ReadFile(path)
	if err != nil {
		r.t.Error(err)
	}
	filler := filepath.Join(s.data, "filler")
	if err := os.WriteFile(filler, make([]byte, 2*smallDisk), 0o600); !errors.Is(err, syscall.ENOSPC) {
		r.t.Errorf("filling the disk: %v", err)
	}
	warnings := strings.Count(s.agent.output(), "snapshot not written")
	// More than the rest of a block: names of services that nobody calls.
	ops := clientv3.OpPut(prefix+"/config/services/filler", `{"kind": "Service", "name": "filler", "owner": "`+strings.Repeat("x", 200)+`"}`)
	r.untilEverywhere("a change", r.etcd.write(ops))
	r.measure("the agent says so", func() error {
		if strings.Count(s.agent.output(), "snapshot not written") == warnings {
			return errors.New("no warning that the snapshot isn't written")
		}
		return nil
	})
	now, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(now, whole) {
		err = errors.New("the snapshot has changed")
	}
	s.cut(refusing)
	r.killAgent(s)
	r.hold(2 * time.Second)
	r.finds("the last snapshot stays whole, and the agent starts from it without etcd", err)
	_ = os.Remove(filler)
	s.cut(open)
	r.measure("a new snapshot", func() error {
		text, err := os.ReadFile(path)
		if err == nil && !bytes.Contains(text, []byte("services/filler ")) {
			err = errors.New("the snapshot is old")
		}
		return err
	})
}
