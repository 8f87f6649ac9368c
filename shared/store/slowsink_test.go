package store

import (
	"fmt"
	"testing"
	"time"

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
