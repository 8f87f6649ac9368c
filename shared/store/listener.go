package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// errMoved ends a watch since the agent's host has another name now.
var errMoved = errors.New("the host was renamed")

// listener follows the bans of a Board's host. All of it is its goroutine's.
type listener struct {
	board    *Board
	link     *link
	host     string
	heard    bool // since the last failure
	revision int64
	known    map[spot]model.ToldBan // of others, as they were told
	complain complaints             // about etcd
	refused  complaints             // about values
}

func newListener(b *Board) *listener {
	return &listener{
		board: b, known: map[spot]model.ToldBan{},
		complain: complaints{
			logger: b.logger, trouble: "bans of the other agents of this host aren't heard", relief: "bans of the other agents are heard again",
		},
		refused: complaints{logger: b.logger, trouble: "ban of another agent refused"},
	}
}

// run follows until ctx ends.
func (l *listener) run(ctx context.Context) {
	if l.link = l.board.link(ctx); l.link == nil {
		return
	}
	for failures := 0; ctx.Err() == nil; failures++ {
		if host := l.board.place(); host != l.host {
			l.forget(func(model.ToldBan) bool { return true })
			l.host, failures = host, 0
		}
		l.heard = false
		err := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errMoved) || errors.Is(err, errElsewhere) {
			continue
		}
		if errors.Is(err, errSilent) && l.heard { // the next session tells whether somebody is there
			sleep(ctx, pause(0, true, rand.Float64()))
			continue
		}
		if l.heard {
			failures = 0
		}
		l.failed(err)
		l.wait(ctx, pause(failures, away(err) || errors.Is(err, errSilent) || errors.Is(err, errBehind), rand.Float64()))
	}
}

// failed notes and logs that the others aren't heard, hears that they are.
func (l *listener) failed(err error) {
	l.complain.about(err)
	l.board.note(func(status *BoardStatus) { status.ReadError = err.Error() })
}

func (l *listener) hears() {
	l.complain.over()
	l.board.note(func(status *BoardStatus) { status.ReadError = "" })
}

// wait waits, while etcd isn't heard.
func (l *listener) wait(ctx context.Context, left time.Duration) {
	for ; left > 0 && ctx.Err() == nil; left -= time.Second {
		l.expire()
		l.remind()
		sleep(ctx, min(left, time.Second))
	}
}

// expire ends the bans that must not outlive etcd's silence.
func (l *listener) expire() {
	latest := time.Now().Add(-l.board.timing.grace)
	l.forget(func(ban model.ToldBan) bool { return ban.Until.Before(latest) })
}

// forget ends bans.
func (l *listener) forget(which func(model.ToldBan) bool) {
	for at, ban := range l.known {
		if which(ban) {
			l.over(at)
		}
	}
}

// session reads all bans of the host and follows them, until something fails. They are few, so that they are read again
// whenever the watch was lost: that also brings back what was ended in the meantime.
func (l *listener) session(ctx context.Context) error {
	folder := l.board.keys.toldOf(l.host)
	present, others := map[spot]bool{}, map[spot]bool{}
	err := l.link.readPages(ctx, folder, pageSize, func(next page) error {
		l.revision = next.revision
		for _, kv := range next.keys {
			at, ok := l.locate(kv.Key)
			if !ok {
				continue
			}
			if present[at] = true; !l.board.mine(kv.Lease) {
				others[at] = true
				l.take(at, kv)
			}
		}
		return nil
	})
	if err != nil {
		l.expire()
		return err
	}
	for at := range l.known {
		if !others[at] {
			l.over(at)
		}
	}
	l.board.vacantBut(present, l.revision)
	l.heard = true
	l.hears()
	return l.watch(ctx, folder)
}

// watch follows the changes after l.revision. It shares the follower's stream to etcd, and so hears its signs of life, and
// asks for some itself only when these don't come. It must begin at a revision that etcd has reached, or the
// follower would get none either.
func (l *listener) watch(ctx context.Context, folder string) error {
	ctx, cancel := l.link.pilot.stream(clientv3.WithRequireLeader(ctx))
	defer cancel()
	endpoint := l.link.pilot.endpoint()
	silence := time.AfterFunc(l.board.timing.silence, cancel) // Watch itself waits where etcd is away
	defer silence.Stop()
	quiet, came := l.board.timing.silence/2, time.Now()
	progress := time.NewTimer(quiet)
	defer progress.Stop()
	responses := l.link.Watch(ctx, folder, clientv3.WithRange(rangeEnd(folder)), clientv3.WithRev(l.revision),
		clientv3.WithFragment(), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	explain := func(err error) error { return l.link.explain(fmt.Sprintf("watch %q", folder), err) }
	for {
		select {
		case <-l.board.moved:
			return errMoved
		case <-l.board.asked:
			l.remind()
		case <-progress.C:
			if l.link.isDeaf(endpoint) { // whether etcd is there, the follower finds out by calls
				if l.board.follower.Status().Synced && time.Since(came) < l.board.follower.timing.deafness {
					silence.Reset(l.board.timing.silence)
					progress.Reset(quiet)
				}
				continue
			}
			if err := l.ask(ctx); err != nil && ctx.Err() == nil {
				l.failed(explain(err))
			}
			progress.Reset(quiet)
		case response, ok := <-responses:
			switch {
			case !ok, response.Err() != nil && ctx.Err() != nil:
				return explain(ended(ctx))
			case response.Err() != nil:
				return explain(response.Err())
			case response.Header.Revision < l.revision && len(response.Events) == 0:
				return explain(errBehind)
			}
			silence.Reset(l.board.timing.silence)
			progress.Reset(quiet)
			came = time.Now()
			l.hears()
			l.apply(response.Events)
		}
	}
}

// ask asks for a sign of life.
func (l *listener) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return l.link.RequestProgress(ctx)
}

func (l *listener) apply(events []*clientv3.Event) {
	for _, event := range events {
		kv := event.Kv
		at, ok := l.locate(kv.Key)
		if kv.ModRevision <= l.revision || !ok {
			continue
		}
		switch {
		case event.Type == mvccpb.Event_DELETE:
			l.over(at)
			l.board.vacant(at, kv.ModRevision)
		case l.board.mine(kv.Lease):
			l.over(at) // it was another's before, if it is known
		default:
			l.take(at, kv)
		}
	}
	if len(events) > 0 {
		l.revision = max(l.revision, events[len(events)-1].Kv.ModRevision)
	}
}

// locate returns what a key is about; false if it can't be a ban's.
func (l *listener) locate(key []byte) (spot, bool) {
	_, service, address, err := l.board.keys.parseTold(key)
	if err == nil {
		err = model.CheckAddress(address)
	}
	if err != nil {
		l.refused.about(err)
		return spot{}, false
	}
	return spot{service, netip.MustParseAddrPort(address)}, true
}

// take tells of a ban of another agent's. A value that can't be read leaves the last one in force.
func (l *listener) take(at spot, kv *mvccpb.KeyValue) {
	ban, _, err := model.ParseToldBan(at.service, at.address.String(), kv.Value)
	if err != nil {
		l.refused.about(fmt.Errorf("key %q: %w", kv.Key, err))
		return
	}
	if known, ok := l.known[at]; !ok || known != *ban {
		l.known[at] = *ban
		l.count()
		l.board.told(at.service, at.address, ban)
	}
}

// remind tells again of what is known of the spots whose own ban was withdrawn.
func (l *listener) remind() {
	b := l.board
	b.mu.Lock()
	spots := b.remind
	b.remind = map[spot]struct{}{}
	b.mu.Unlock()
	for at := range spots {
		if ban, ok := l.known[at]; ok {
			b.told(at.service, at.address, &ban)
		}
	}
}

// over tells that a ban of another agent's is over, if there was one.
func (l *listener) over(at spot) {
	if _, ok := l.known[at]; ok {
		delete(l.known, at)
		l.count()
		l.board.told(at.service, at.address, nil)
	}
}

func (l *listener) count() {
	l.board.note(func(status *BoardStatus) { status.Heard = len(l.known) })
}
