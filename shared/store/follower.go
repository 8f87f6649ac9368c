package store

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Sink receives the configuration. Calls come from one goroutine at a time, in order of revision, but for a Replace, whose
// revision may be lower when etcd was restored from an older copy. Records and what they point at belong to the sink and
// are never changed again; instances may share label maps. The sink must not change them either.
type Sink interface {
	// Replace gives all there is, at one revision. What isn't among the records is gone; what is refused (Err) keeps its
	// last good version.
	Replace(revision int64, records []model.Record)
	// Apply gives what changed since the last call, in order; a key may be among the records more than once.
	//
	// A service that is followed from now on comes by a call of its own, at the revision of the last one. Some of its records
	// may be newer than that; changes up to them don't come again.
	Apply(revision int64, records []model.Record)
	// Forget says that services aren't followed any more, and so nothing will be told of them. They are gone from the sink,
	// but not from the mesh: it is no removal to be held back.
	Forget(services []string)
	// Confirm says that nothing changed up to the revision: the store heard so from etcd just now.
	Confirm(revision int64)
}

// Source gives back what is in force. A Follower with a snapshot file asks its Sink for it, from a goroutine of its own,
// while Replace and Apply may be under way.
//
// The snapshot's instances are written from here and not from a copy of etcd's values: 200,000 values are some 30 MiB,
// which an agent shouldn't hold twice, while the Sink holds them anyway, and with them the last good version of a refused
// record.
type Source interface {
	// Records yields each service, each instance, each ban made by hand and the topology in force, in any order, until yield
	// returns false. Err is nil in all.
	Records(yield func(model.Record) bool)
	// AsOf says that what the last Replace gave came from a snapshot, and was etcd's word when that was written: at the last
	// change, or at the last end of the process.
	AsOf(written time.Time)
	// Held returns the removals that are held back; nil: none is. Resume gives it back after the Replace from a snapshot.
	Held() *model.Holds
	Resume(held *model.Holds)
}

// Where a Follower's state comes from, in Status.
const (
	SourceNone     = "none"
	SourceSnapshot = "snapshot"
	SourceEtcd     = "etcd"
)

// Status is what a Follower knows of itself.
type Status struct {
	// Synced: the configuration is etcd's, and etcd is being heard.
	Synced bool
	// Source is what the configuration was read from: SourceNone, SourceSnapshot or SourceEtcd.
	Source string
	// Revision is etcd's, up to which all changes were taken.
	Revision int64
	// LastContact is when etcd was last heard; zero: never. A healthy watch is asked for a sign of life each 10 s.
	LastContact time.Time
	// LastError is why etcd isn't being heard. Empty: it is.
	LastError string
	// Endpoint is the one in use. Empty: there was no attempt yet.
	Endpoint string
}

// Follower reads the configuration and follows it. It needs etcd at no time: without it, the sink keeps what it has.
type Follower struct {
	cfg      Config
	keys     keyspace
	sink     Sink
	snapshot *snapshotter // nil: none
	timing   timing
	extent   *extent
	fetches  *rate.Limiter

	link   *link
	opened chan struct{} // closed when link stands; others may use it from then on, until Close

	// Of the goroutine alone.
	decoder  *decoder
	listed   bool // the sink has all of etcd's keys at revision
	revision int64
	cluster  uint64
	complain complaints
	silent   string // the endpoint whose watch has just fallen silent

	mu     sync.Mutex
	status Status

	start, close sync.Once
	cancel       context.CancelFunc
	done         chan struct{} // closed when the goroutine is gone; nil: never started
}

// timing is what tests shorten.
type timing struct {
	page     int64         // keys in one answer
	call     time.Duration // for one call
	progress time.Duration // between requests for a sign of life, ±10 %
	silence  time.Duration // without a sign of life the watch is given up and etcd asked anew
	deafness time.Duration // the same where calls stand for signs of life
	fetch    time.Duration // for one read of single services
	sweep    time.Duration // between looks for services that aren't used
	unused   time.Duration // after which a service isn't followed any more
}

// Under 10,000 agents a cluster, as etcd is meant for, a request each 10 s makes 1,000 small messages a second. Two may be
// lost before a watch is given up.
var defaultTiming = timing{
	page: pageSize, call: callTimeout, progress: 10 * time.Second, silence: 25 * time.Second, deafness: 5 * time.Minute,
	fetch: fetchTimeout, sweep: sweepEvery, unused: keepUnused,
}

// NewFollower checks the configuration and its TLS files. It doesn't ask etcd, nor wait for anything. With a snapshot
// file, the sink must be a Source as well.
func NewFollower(cfg Config, sink Sink) (*Follower, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if _, err := tlsConfig(&cfg); err != nil {
		return nil, err
	}
	keys := newKeyspace(cfg.Prefix)
	f := &Follower{
		cfg:     cfg,
		keys:    keys,
		sink:    sink,
		timing:  defaultTiming,
		extent:  newExtent(),
		fetches: rate.NewLimiter(fetchRate, fetchBurst),
		decoder: newDecoder(keys, newWarnings(cfg.Logger)),
		opened:  make(chan struct{}),
		complain: complaints{
			logger: cfg.Logger, trouble: "etcd isn't heard, the last configuration stays in force", relief: "etcd is heard again",
		},
		status: Status{Source: SourceNone},
	}
	if cfg.Snapshot != "" {
		source, ok := sink.(Source)
		if !ok {
			return nil, fmt.Errorf("snapshot %q: a %T can't give back the records to write", cfg.Snapshot, sink)
		}
		f.snapshot = newSnapshotter(&cfg, source)
		f.snapshot.partial = f.extent.partial
	}
	return f, nil
}

// LoadSnapshot feeds the sink from the snapshot file. It must be called before Start. The error is os.ErrNotExist if there
// is no file, none configured, or nothing in it; any other means that the file can't be trusted, and the sink got nothing.
func (f *Follower) LoadSnapshot() error {
	if f.snapshot == nil {
		return fmt.Errorf("snapshot: %w", os.ErrNotExist)
	}
	state, err := f.snapshot.load(f.decoder, f.extent.loads)
	if err != nil {
		return err
	}
	if len(state.records) == 0 {
		// Written before the mesh was set up: to know that there is nothing isn't worth a 404 for every name.
		return fmt.Errorf("snapshot %q: is empty: %w", f.cfg.Snapshot, os.ErrNotExist)
	}
	read := len(state.records)
	f.sink.Replace(state.revision, state.records)
	f.extent.loaded(&state)
	f.snapshot.source.AsOf(state.written)
	f.snapshot.source.Resume(state.held)
	giveBack(read)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Source, f.status.Revision = SourceSnapshot, state.revision
	return nil
}

// Start begins to follow etcd. A second call does nothing.
func (f *Follower) Start() {
	f.start.Do(func() {
		f.extent.begin()
		ctx, cancel := context.WithCancel(context.Background())
		f.cancel, f.done = cancel, make(chan struct{})
		if f.snapshot != nil {
			f.snapshot.start()
		}
		go f.run(ctx)
	})
}

// Close stops following, waits until that is done, and writes the snapshot a last time if something changed. The sink is
// not called any more. A Follower can't be started again.
func (f *Follower) Close() {
	f.start.Do(func() {}) // a Start that comes late does nothing
	f.close.Do(func() {
		if f.done == nil {
			return
		}
		f.cancel()
		<-f.done
		if f.snapshot != nil {
			f.snapshot.stop()
		}
	})
}

// connection waits for the connection, which is good until Close. It is nil when ctx ends first.
func (f *Follower) connection(ctx context.Context) *link {
	select {
	case <-f.opened:
		return f.link
	case <-ctx.Done():
		return nil
	}
}

// Status tells how the following goes. It doesn't wait.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := f.status
	select {
	case <-f.opened:
		status.Endpoint = f.link.pilot.endpoint()
	default:
	}
	return status
}

// heard notes that etcd was heard, and that all changes up to the revision were taken.
func (f *Follower) heard(revision int64) {
	f.revision = revision
	f.mu.Lock()
	f.status.Synced, f.status.Source = true, SourceEtcd
	f.status.Revision, f.status.LastContact, f.status.LastError = revision, time.Now(), ""
	f.mu.Unlock()
	f.complain.over()
}

// failed notes why etcd isn't heard.
func (f *Follower) failed(err error) {
	f.mu.Lock()
	f.status.Synced, f.status.LastError = false, err.Error()
	f.mu.Unlock()
	f.complain.about(err)
}
