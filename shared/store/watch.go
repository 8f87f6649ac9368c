package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// watching is one watch of a Follower, until it fails.
type watching struct {
	*Follower
	whole    context.Context // of the follower; no silence ends it
	ctx      context.Context // of the watch
	endpoint string
	silence  *time.Timer
	progress *time.Timer
	fetches  *pacer
	batch    *batch
	came     time.Time // when the last response did
}

// watch follows the changes after f.revision until the watch fails. The client reconnects by itself for as long as
// timing.silence; then the watch is given up, since nothing tells a lost one from a quiet one but signs of life.
func (f *Follower) watch(whole context.Context) error {
	ctx, cancel := f.link.pilot.stream(clientv3.WithRequireLeader(whole))
	defer cancel()
	w := &watching{
		Follower: f, whole: whole, ctx: ctx, endpoint: f.link.pilot.endpoint(),
		silence: time.AfterFunc(f.timing.silence, cancel), // Watch itself waits where etcd is away
		fetches: newPacer(f.fetches), batch: newBatch(f.takeAll),
		progress: time.NewTimer(f.untilProgress()), came: time.Now(),
	}
	defer w.silence.Stop()
	defer w.progress.Stop()
	defer w.fetches.timer.Stop()
	defer w.batch.stop()
	w.schedule() // what is left from a watch that failed

	// It begins at the revision that was read and not after it, and what is known is skipped: etcd gives no sign of life to
	// a watch that begins in the future, which in an idle mesh would be until somebody writes.
	responses := f.link.Watch(ctx, f.keys.root, clientv3.WithRange(rangeEnd(f.keys.root)), clientv3.WithRev(f.revision),
		clientv3.WithFragment(), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	for {
		var err error
		select {
		case <-w.progress.C:
			err = w.probe()
		case <-f.extent.wake:
			if f.rescope() {
				return errRescoped
			}
			w.schedule()
		case <-w.fetches.timer.C:
			err = f.fetch(ctx)
			w.fetches.pending = false
			w.schedule()
		case <-w.batch.rest.C:
			if err = w.batch.rested(); err != nil {
				err = f.explainWatch(err)
			}
		case response, ok := <-responses:
			err = w.respond(&response, ok)
		}
		if err != nil {
			return err
		}
	}
}

// schedule has read what services wait for it.
func (w *watching) schedule() {
	if len(w.extent.next(1)) > 0 {
		w.fetches.schedule()
	}
}

// probe asks for a sign of life, and does what is to be done now and then.
func (w *watching) probe() error {
	w.progress.Reset(w.untilProgress())
	w.sweep()
	w.schedule() // what couldn't be read
	if w.Status().Synced && time.Since(w.came) < w.timing.progress*3/4 {
		return nil // etcd says something unasked, as it does often to its gRPC proxies
	}
	if !w.link.isDeaf(w.endpoint) {
		if w.requestProgress(w.ctx); w.Status().Synced {
			return nil
		}
		// After an outage the client resumes the watch after what it has seen last, where etcd gives no sign of life to it until
		// somebody writes.
		return w.callForLife(w.whole)
	}
	if err := w.callForLife(w.whole); err != nil {
		return err
	}
	if time.Since(w.came) < w.timing.deafness {
		w.silence.Reset(w.timing.silence)
	}
	return nil
}

// respond takes a response of the watch, now or with those that follow it; not ok: the watch has ended.
func (w *watching) respond(response *clientv3.WatchResponse, ok bool) error {
	if !ok || response.Err() != nil && w.ctx.Err() != nil {
		err := cmp.Or(w.batch.flush(), ended(w.ctx))
		if errors.Is(err, errSilent) {
			w.silent = w.endpoint
		}
		return w.explainWatch(err)
	}
	if cluster := response.Header.ClusterId; cluster != 0 && cluster != w.cluster && response.Err() == nil {
		return w.explainWatch(errBehind) // another etcd in the place of the one that was read
	}
	w.silence.Reset(w.timing.silence)
	w.came = time.Now()
	if err := w.batch.add(response); err != nil {
		return w.explainWatch(err)
	}
	return nil
}

// callForLife is a call in the place of a request for a sign of life, which etcd's gRPC proxy doesn't pass on but logs as an
// error. It says that etcd is heard. That the watch is, it doesn't say: so that is made anew when nothing has come by it for
// timing.deafness.
func (f *Follower) callForLife(ctx context.Context) error {
	same, err := f.remembered(ctx)
	if err != nil {
		return err
	}
	if !same {
		return f.explainWatch(errBehind)
	}
	f.confirm(f.revision)
	return nil
}

func (f *Follower) explainWatch(err error) error {
	return f.link.explain(fmt.Sprintf("watch %q after revision %d", f.keys.root, f.revision), err)
}

func (f *Follower) untilProgress() time.Duration {
	return time.Duration(float64(f.timing.progress) * (0.9 + 0.2*rand.Float64()))
}

// requestProgress asks the watch for a sign of life. That fails only while there is no stream to ask on; the watch then
// goes on trying, and the silence tells when to stop.
func (f *Follower) requestProgress(watch context.Context) {
	ctx, cancel := context.WithTimeout(watch, time.Second)
	defer cancel()
	if err := f.link.RequestProgress(ctx); err != nil && watch.Err() == nil {
		f.failed(f.explainWatch(err))
	}
}

// take hands one response of the watch to the sink.
func (f *Follower) take(response *clientv3.WatchResponse) error {
	switch {
	case response.Header.Revision < f.revision && len(response.Events) == 0:
		return errBehind
	case response.Created:
		return nil // there may be more to come: it confirms nothing
	case response.IsProgressNotify():
		f.confirm(response.Header.Revision)
	}
	return nil
}

func (f *Follower) confirm(revision int64) {
	f.sink.Confirm(revision)
	f.heard(revision)
	f.snapshot.confirmed(revision)
}

// apply takes the events of one or several responses. Their last revision counts, not the header's: after a pause more may follow.
func (f *Follower) apply(events []*clientv3.Event) {
	revision := events[len(events)-1].Kv.ModRevision
	if revision <= f.revision {
		return
	}
	records := make([]model.Record, 0, len(events))
	for _, event := range events {
		if event.Kv.ModRevision <= f.revision || !f.extent.takes(f.keys, event.Kv.Key, event.Kv.ModRevision) {
			continue
		}
		records = append(records, f.record(event))
	}
	f.decoder.warned.flush()
	if len(records) == 0 {
		f.confirm(revision)
		return
	}
	f.sink.Apply(revision, records)
	f.heard(revision)
	f.snapshot.changed(revision)
}

func (f *Follower) record(event *clientv3.Event) model.Record {
	kv := event.Kv
	if event.Type == mvccpb.Event_DELETE {
		record := f.decoder.deleted(kv.Key, kv.ModRevision)
		f.snapshot.document(&record, nil)
		return record
	}
	record := f.decoder.put(kv.Key, kv.Value, kv.ModRevision)
	f.snapshot.document(&record, kv.Value)
	return record
}
