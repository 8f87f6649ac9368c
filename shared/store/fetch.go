package store

import (
	"bytes"
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/ufc-mesh/ufc/shared/model"
)

// errRescoped ends a watch since there is more to follow than was read.
var errRescoped = errors.New("the scope was widened to all services")

// pacer tells when the next read of single services may begin.
type pacer struct {
	timer   *time.Timer
	limiter *rate.Limiter
	pending bool
}

func newPacer(limiter *rate.Limiter) *pacer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &pacer{timer: timer, limiter: limiter}
}

// schedule lets the timer run out when a read may begin.
func (p *pacer) schedule() {
	if !p.pending {
		p.pending = true
		p.timer.Reset(p.limiter.Reserve().Delay())
	}
}

// fetch reads services that were asked for, and gives them to the sink. It runs between two events of the watch, so that the
// sink is told in order: what etcd tells later of changes before the read is passed over. The error ends the watch. Where the
// watch has ended meanwhile, by a move to another endpoint or its silence, nobody is answered: the next one has it read.
func (f *Follower) fetch(ctx context.Context) error {
	services := f.extent.next(serviceBatch)
	if len(services) == 0 {
		return nil
	}
	records, found, at, err := f.readAsked(ctx, services)
	switch {
	case err != nil && ctx.Err() != nil:
		f.snapshot.forget(services)
		return nil
	case err != nil && away(err):
		f.failed(err)
	case err != nil:
		f.complain.about(err)
	case at.revision < f.revision:
		err = errBehind
	}
	if err != nil {
		f.snapshot.forget(services)
		f.extent.answer(services, ErrNotHeard)
		if errors.Is(err, errBehind) {
			return f.explainWatch(err)
		}
		return nil
	}
	if len(records) > 0 {
		f.sink.Apply(f.revision, records)
		f.snapshot.changed(f.revision)
	}
	f.extent.read(services, found, at.revision)
	f.extent.answer(services, nil)
	return nil
}

// readAsked reads services within timing.fetch. An endpoint that takes longer is suspected to hang.
func (f *Follower) readAsked(ctx context.Context, services []string) (records []model.Record, found map[string]bool, at page, err error) {
	endpoint := f.link.pilot.endpoint()
	limited, cancel := context.WithTimeout(ctx, f.timing.fetch)
	defer cancel()
	found = map[string]bool{}
	at, err = f.link.readServices(limited, f.keys, services, page{}, f.timing.page, func(next page) {
		for _, kv := range next.keys {
			record := f.decoder.put(kv.Key, kv.Value, kv.ModRevision)
			records = append(records, record)
			found[record.Name] = true
			f.snapshot.document(&record, bytes.Clone(kv.Value))
		}
	})
	f.decoder.warned.flush()
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		f.link.pilot.hangs(endpoint)
	}
	return records, found, at, err
}

// rescope puts a changed scope in force, and tells whether everything has to be read for it.
func (f *Follower) rescope() (relist bool) {
	gone, relist := f.extent.rescope()
	f.forget(gone)
	return relist
}

// sweep forgets what hasn't been used for long.
func (f *Follower) sweep() {
	f.forget(f.extent.sweep(time.Now(), f.timing.sweep, f.timing.unused))
}

// forget takes services out of the sink.
func (f *Follower) forget(services []string) {
	if len(services) == 0 {
		return
	}
	f.sink.Forget(services)
	f.snapshot.forget(services)
	if f.listed { // else a file that is as old as etcd's last word would look younger
		f.snapshot.changed(f.revision)
	}
	f.cfg.Logger.Info("services not followed any more", "services", len(services), "one", services[0])
}
