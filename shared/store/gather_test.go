package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// slowSink takes its time for each change, however small, as for one of a service of very many instances.
type slowSink struct {
	*recorder
	pause time.Duration
}

func (s *slowSink) Apply(revision int64, records []model.Record) {
	time.Sleep(s.pause)
	s.recorder.Apply(revision, records)
}

// Many changes one after the other don't pile up before a sink that is slow: they are taken together, and all are taken.
func TestSlowSink(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putService("shop")
	sink := &slowSink{newRecorder(t), 100 * time.Millisecond}
	f, err := NewFollower(cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	f.Start()
	t.Cleanup(f.Close)
	sink.awaitReplace(1)
	const changes = 300
	var last int64
	for n := range changes {
		last = w.putInstance("shop", fmt.Sprintf("10.0.%d.%d:80", n>>8, n&255))
	}
	began := time.Now()
	sink.awaitRevision(last)
	if sink.applied > changes/2 || len(sink.state) != changes+1 {
		t.Errorf("%d calls for %d changes, %d records", sink.applied, changes, len(sink.state))
	}
	t.Logf("%d calls; the last change was seen %s after it was made", sink.applied, time.Since(began))
}

func TestGather(t *testing.T) {
	events := func(count int) clientv3.WatchResponse {
		response := clientv3.WatchResponse{}
		for range count {
			response.Events = append(response.Events, &clientv3.Event{Kv: &mvccpb.KeyValue{ModRevision: 7}})
		}
		return response
	}
	f := func(took time.Duration, first clientv3.WatchResponse, want int, ended error, more ...clientv3.WatchResponse) {
		t.Helper()
		responses := make(chan clientv3.WatchResponse, len(more))
		for _, response := range more {
			responses <- response
		}
		if errors.Is(ended, errSilent) {
			close(responses)
		}
		follower := &Follower{took: took}
		if err := follower.gather(&first, responses); len(first.Events) != want || !errors.Is(err, ended) {
			t.Errorf("%d events, error %v; want %d, %v", len(first.Events), err, want, ended)
		}
	}
	const slow = 50 * time.Millisecond
	f(0, events(1), 1, nil, events(2))
	f(slow, events(0), 0, nil, events(2)) // a sign of life waits for nothing
	f(slow, events(1), 1, nil)
	f(slow, events(1), 6, nil, events(2), events(0), events(3))
	f(slow, events(1), 3, errSilent, events(2))
	f(slow, events(1), 3, rpctypes.ErrCompacted, events(2), clientv3.WatchResponse{CompactRevision: 9})
	f(time.Hour, events(1), mostEvents+1, nil, events(mostEvents), events(1))
}
