package store

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// watch follows the changes after f.revision until the watch fails. The client reconnects by itself for as long as
// timing.silence; then the watch is given up, since nothing tells a lost one from a quiet one but signs of life.
func (f *Follower) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	silence := time.AfterFunc(f.timing.silence, cancel) // Watch itself waits where etcd is away
	defer silence.Stop()
	progress := time.NewTimer(f.untilProgress())
	defer progress.Stop()

	// It begins at the revision that was read and not after it, and what is known is skipped: etcd gives no sign of life to
	// a watch that begins in the future, which in an idle mesh would be until somebody writes.
	responses := f.link.Watch(ctx, f.keys.root, clientv3.WithRange(rangeEnd(f.keys.root)), clientv3.WithRev(f.revision),
		clientv3.WithFragment(), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	batch := newBatch(f.takeAll)
	defer batch.stop()
	for {
		select {
		case <-progress.C:
			f.requestProgress(ctx)
			progress.Reset(f.untilProgress())
		case <-batch.rest.C:
			if err := batch.rested(); err != nil {
				return f.explainWatch(err)
			}
		case response, ok := <-responses:
			if !ok {
				return f.explainWatch(cmp.Or(batch.flush(), errSilent))
			}
			silence.Reset(f.timing.silence)
			// etcd's gRPC proxy doesn't know such requests, and passes on what etcd says unasked: where that is often enough,
			// nobody asks.
			progress.Reset(f.untilProgress())
			if err := batch.add(&response); err != nil {
				return f.explainWatch(err)
			}
		}
	}
}

func (f *Follower) explainWatch(err error) error {
	return f.link.explain(fmt.Sprintf("watch %q after revision %d", f.keys.root, f.revision), err)
}

func (f *Follower) untilProgress() time.Duration {
	return time.Duration(float64(f.timing.progress) * (0.9 + 0.2*rand.Float64()))
}

// requestProgress asks the watch for a sign of life. That fails only while there is no stream to ask on; the watch then
// goes on trying, and the silence tells when to stop.
func (f *Follower) requestProgress(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := f.link.RequestProgress(ctx); err != nil {
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
}

// apply takes the events of one or several responses. Their last revision counts, not the header's: after a pause more may follow.
func (f *Follower) apply(events []*clientv3.Event) {
	revision := events[len(events)-1].Kv.ModRevision
	if revision <= f.revision {
		return
	}
	records := make([]model.Record, 0, len(events))
	for _, event := range events {
		if event.Kv.ModRevision <= f.revision {
			continue
		}
		records = append(records, f.record(event))
	}
	f.decoder.warned.flush()
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
