package store

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

var (
	// errSilent ends a watch that shows no sign of life, though its connection may stand.
	errSilent = errors.New("no sign of life from the watch")
	// errBehind ends a watch on a member that knows less than was already read: it lags, or etcd was restored.
	errBehind = errors.New("this etcd is behind what was already read")
)

// run follows until ctx ends.
func (f *Follower) run(ctx context.Context) {
	defer close(f.done)
	defer func() {
		if f.link != nil {
			f.link.Close()
		}
	}()
	for failures := 0; ctx.Err() == nil; failures++ {
		before := f.Status().LastContact
		err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if f.Status().LastContact != before {
			failures = 0
		}
		if errors.Is(err, errElsewhere) || errors.Is(err, errRescoped) {
			continue
		}
		if errors.Is(err, errSilent) { // the next session tells whether somebody is there
			sleep(ctx, pause(0, true, rand.Float64()))
			continue
		}
		f.failed(err)
		if failures == 0 && errors.Is(err, rpctypes.ErrCompacted) {
			continue // etcd is there and has more to tell: read it at once
		}
		sleep(ctx, pause(failures, away(err) || errors.Is(err, errBehind), rand.Float64()))
	}
}

// session brings the sink in step with etcd and keeps it there, until something fails.
//
// A watch that ended is resumed where it was; nothing can be missed by that. Only what etcd doesn't remember any more
// makes the follower read everything again: after an election, 10,000 agents would fetch 40 MB each for nothing.
func (f *Follower) session(ctx context.Context) (err error) {
	if f.rescope() {
		f.listed = false
	}
	if f.link == nil {
		if f.link, err = openLink(ctx, &f.cfg, f.timing.call); err != nil {
			return err
		}
		close(f.opened)
	}
	if f.listed {
		silent := f.silent
		f.silent = ""
		if f.listed, err = f.remembered(ctx); err != nil {
			return err
		}
		f.link.deaf.Store(&silent)
	}
	if !f.listed {
		if err := f.list(ctx); err != nil {
			return err
		}
		f.listed = true
	}
	err = f.watch(ctx)
	if errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, errRescoped) {
		f.listed = false
	}
	return err
}

// remembered asks etcd whether it is still the one that was read from, and not behind it. Else it was restored from a
// copy or made anew, and its revisions mean something else.
func (f *Follower) remembered(ctx context.Context) (bool, error) {
	answer, err := call(ctx, f.link, "ask for the revision", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return f.link.Get(ctx, f.keys.topology(), clientv3.WithCountOnly())
	})
	if err != nil {
		return true, err
	}
	same := answer.Header.ClusterId == f.cluster && answer.Header.Revision >= f.revision
	if !same {
		f.cfg.Logger.Warn("etcd is not at the revision it was: reading everything again",
			"cluster", answer.Header.ClusterId, "revision", answer.Header.Revision, "was_cluster", f.cluster, "was_revision", f.revision)
	}
	return same, nil
}

// list reads everything that is followed and gives it to the sink. The sink keeps what it had until then.
func (f *Follower) list(ctx context.Context) error {
	began := time.Now()
	gone, services, all := f.extent.reading()
	f.forget(gone)
	var records []model.Record
	var revision int64
	documents, found := map[string]document{}, map[string]bool{}
	err := f.readList(ctx, services, all, func(next page) {
		if records == nil {
			records = make([]model.Record, 0, next.total)
		}
		revision, f.cluster = next.revision, next.cluster
		for _, kv := range next.keys {
			record := f.decoder.put(kv.Key, kv.Value, kv.ModRevision)
			records = append(records, record)
			if record.Name != "" && record.Kind != model.KindConfirm {
				found[record.Name] = true
			}
			keep(documents, &record, kv.Value)
		}
	})
	f.decoder.warned.flush()
	if err != nil {
		return err
	}
	read := len(records)
	f.sink.Replace(revision, records)
	f.extent.readAll(services, found, revision, all)
	f.extent.answer(services, nil)
	f.heard(revision)
	f.snapshot.replaced(revision, documents)
	f.cfg.Logger.Info("configuration read from etcd", "revision", revision, "records", read, "took", time.Since(began))
	giveBack(read)
	return nil
}

// readList reads all keys, or those of no service (the topology, confirmations) and those of some services, at one revision.
func (f *Follower) readList(ctx context.Context, services []string, all bool, take func(page)) error {
	if all {
		return f.link.readAhead(ctx, f.keys.root, f.timing.page, take)
	}
	answer, err := call(ctx, f.link, "read the topology", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return f.link.Txn(ctx).Then(clientv3.OpGet(f.keys.topology()), clientv3.OpGet(f.keys.confirm("")),
			clientv3.OpGet(f.keys.allConfirms(), clientv3.WithRange(rangeEnd(f.keys.allConfirms())))).Commit()
	})
	if err != nil {
		return err
	}
	first := page{revision: answer.Header.Revision, cluster: answer.Header.ClusterId, total: int64(len(services))}
	for _, response := range answer.Responses {
		first.keys = append(first.keys, response.GetResponseRange().GetKvs()...)
	}
	take(first)
	_, err = f.link.readServices(ctx, f.keys, services, first, f.timing.page, take)
	return err
}

// pause returns how long to wait after so many failures in a row. Where etcd is away it is short, since a call waits for it
// anyway, and the jitter is wide. Where etcd refuses (wrong password, no permission) it grows up to half a minute: a
// password costs etcd a tenth of a second of CPU.
func pause(failures int, away bool, random float64) time.Duration {
	longest := 30 * time.Second
	if away {
		longest = 500 * time.Millisecond
	}
	longest = min(longest, 100*time.Millisecond<<min(failures, 10))
	return longest/2 + time.Duration(random*float64(longest/2))
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// complaints logs failures at a bounded rate: a new one at most each 10 s, the same one each minute.
type complaints struct {
	logger          *slog.Logger
	trouble, relief string // what is logged with a failure, and when it is over
	text            string // the last one logged; empty: all is well
	at              time.Time
}

func (c *complaints) about(err error) {
	wait := 10 * time.Second
	if text := err.Error(); text == c.text {
		wait = time.Minute
	}
	if c.text != "" && time.Since(c.at) < wait {
		return
	}
	c.text, c.at = err.Error(), time.Now()
	c.logger.Warn(c.trouble, "error", err)
}

func (c *complaints) over() {
	if c.text != "" {
		c.logger.Info(c.relief)
	}
	c.text = ""
}
