package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

const (
	// snapshotEvery is the shortest time between two snapshots.
	snapshotEvery = 5 * time.Second
	// snapshotRate bounds what snapshots write, in bytes per second, so that a large mesh in which something always changes
	// doesn't wear the disk out: 200,000 instances are 25 MB, which is a snapshot each 95 s and 22 GB a day at worst.
	snapshotRate = 256 << 10
	// snapshotRetry is the time after a failed one.
	snapshotRetry = time.Minute
)

// document is the value of a Service or of the Topology as it is in etcd. These are kept as written, since they are few,
// and what a newer version wrote into them isn't lost by way of the snapshot.
type document struct {
	revision int64
	value    []byte
	refused  bool // in a list: the last good value stays
	gone     bool // from etcd: it is kept for as long as the sink holds it in force nevertheless
}

// keep notes the value of a record in documents, by its key below PREFIX/config/, if it is one of theirs.
func keep(documents map[string]document, record *model.Record, value []byte) {
	if key := documentKey(record); key != "" {
		documents[key] = document{revision: record.Revision, value: onDisk(record, value), refused: record.Err != nil}
	}
}

// onDisk returns what the snapshot may hold of a document: nothing that was refused, and no webhook, since its URL is a
// secret with many receivers. So an agent that starts from its snapshot sends no webhooks until etcd is heard.
func onDisk(record *model.Record, value []byte) []byte {
	switch {
	case record.Err != nil:
		return nil
	case record.Service != nil && record.Service.Ban.Webhook != nil:
		return model.WithoutWebhook(value)
	}
	return bytes.Clone(value)
}

// keepRefused puts the last good value in the place of each that was refused.
func keepRefused(documents, last map[string]document) {
	for key, listed := range documents {
		if !listed.refused {
			continue
		}
		if good, ok := last[key]; ok {
			documents[key] = good
		} else {
			delete(documents, key)
		}
	}
}

// documentKey returns "" for what isn't a Service or the Topology.
func documentKey(record *model.Record) string {
	switch record.Kind {
	case model.KindService:
		return servicesFolder + record.Name
	case model.KindTopology:
		return topologyKey
	}
	return ""
}

// snapshotter writes the snapshot file from a goroutine of its own, so that a slow disk delays no change. A nil
// snapshotter is one without file: what it is told is forgotten.
type snapshotter struct {
	path   string
	prefix string
	source Source
	logger *slog.Logger
	every  time.Duration
	// partial tells whether there may be services in the mesh that the source doesn't have.
	partial func() bool

	mu        sync.Mutex
	documents map[string]document
	revision  int64
	dirty     bool // something changed since the last snapshot
	held      bool // the last snapshot has removals that are held back

	wake chan struct{}
	quit chan struct{}
	done chan struct{}
}

func newSnapshotter(cfg *Config, source Source) *snapshotter {
	return &snapshotter{
		path: cfg.Snapshot, prefix: cfg.Prefix, source: source, logger: cfg.Logger, every: snapshotEvery,
		documents: map[string]document{}, partial: func() bool { return false },
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// replaced tells of a list: all documents there are.
func (s *snapshotter) replaced(revision int64, documents map[string]document) {
	if s == nil {
		return
	}
	s.mu.Lock()
	keepRefused(documents, s.documents)
	for key, last := range s.documents {
		if _, listed := documents[key]; !listed {
			last.gone = true
			documents[key] = last
		}
	}
	s.documents = documents
	s.mu.Unlock()
	s.changed(revision)
}

// document tells of one changed record; no value: it is gone.
func (s *snapshotter) document(record *model.Record, value []byte) {
	key := documentKey(record)
	if s == nil || key == "" || record.Err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.documents[key]; record.Deleted && ok {
		known.gone = true
		s.documents[key] = known
	} else if !record.Deleted {
		s.documents[key] = document{revision: record.Revision, value: onDisk(record, value)}
	}
}

// forget tells that services aren't followed any more.
func (s *snapshotter) forget(services []string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range services {
		delete(s.documents, servicesFolder+service)
	}
}

// changed tells that the sink has a new state.
func (s *snapshotter) changed(revision int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.revision, s.dirty = revision, true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// confirmed tells that nothing changed up to the revision. Time may have let go of what is held back.
func (s *snapshotter) confirmed(revision int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held && s.source.Held() == nil {
		s.changed(revision)
	}
}

func (s *snapshotter) start() { go s.run() }

// stop writes what isn't written yet, and waits for that.
func (s *snapshotter) stop() {
	close(s.quit)
	<-s.done
}

func (s *snapshotter) run() {
	defer close(s.done)
	pause := time.NewTimer(0) // the first one is written at once
	defer pause.Stop()
	for {
		select {
		case <-s.quit:
			s.writeIfDirty()
			return
		case <-pause.C:
		}
		select {
		case <-s.quit:
			s.writeIfDirty()
			return
		case <-s.wake:
			pause.Reset(s.writeIfDirty())
		}
	}
}

// writeIfDirty returns how long to wait before the next one.
func (s *snapshotter) writeIfDirty() time.Duration {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = false
	s.mu.Unlock()
	if !dirty {
		return s.every
	}
	size, err := s.write()
	if err != nil {
		s.logger.Warn("snapshot not written, the last one stays", "error", err)
		s.mu.Lock()
		revision := s.revision
		s.mu.Unlock()
		s.changed(revision)
		return snapshotRetry
	}
	return max(s.every, time.Duration(size)*time.Second/snapshotRate)
}

// write writes the file beside the last one, and then in its place.
func (s *snapshotter) write() (size int64, err error) {
	fail := func(err error) (int64, error) { return 0, fmt.Errorf("write snapshot %q: %w", s.path, err) }
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fail(err)
	}
	// The name is always the same, so that a crash leaves one file behind at most. What it left goes.
	temporary := s.path + ".tmp"
	_ = os.Remove(temporary) // mostly there is none
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(temporary) }() // when all went well it is there no more
	size, err = s.encode(file)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary, s.path)
	}
	if err != nil {
		return fail(err)
	}
	syncDirectory(filepath.Dir(s.path))
	return size, nil
}

// syncDirectory makes the renaming last over a power cut. Some file systems can't, and the old file is as good.
func syncDirectory(path string) {
	if directory, err := os.Open(path); err == nil {
		_ = directory.Sync()
		directory.Close()
	}
}

// dropGone drops the documents that are gone and that the sink doesn't hold in force.
func (s *snapshotter) dropGone() {
	s.mu.Lock()
	gone := map[string]bool{}
	for key, document := range s.documents {
		if document.gone {
			gone[key] = true
		}
	}
	s.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	s.source.Records(func(record model.Record) bool {
		delete(gone, documentKey(&record))
		return true
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range gone {
		if s.documents[key].gone { // it isn't back in the meantime
			delete(s.documents, key)
		}
	}
}

// encode writes all that is in force.
func (s *snapshotter) encode(file *os.File) (int64, error) {
	s.dropGone()
	held := s.source.Held()
	s.mu.Lock()
	s.held = held != nil
	header := snapshotHeader{
		Prefix: s.prefix, Revision: s.revision, Written: time.Now().UTC(), Held: held, Partial: s.partial(),
	}
	documents := maps.Clone(s.documents)
	s.mu.Unlock()
	out := newSnapshotWriter(file, header)
	for _, key := range slices.Sorted(maps.Keys(documents)) {
		out.record(key, documents[key].revision, documents[key].value)
	}
	s.source.Records(func(record model.Record) bool {
		switch {
		case record.Instance != nil:
			out.record(instancesFolder+record.Name+"/"+record.Instance.Address.String(), record.Revision, record.Instance.JSON())
		case record.Ban != nil:
			out.record(bansFolder+record.Name+"/"+record.Address, record.Revision, record.Ban.JSON())
		}
		return out.err == nil
	})
	err := out.close()
	return out.size, err
}

// snapshotState is what a snapshot holds.
type snapshotState struct {
	written  time.Time
	revision int64
	partial  bool // it has only what was followed then
	records  []model.Record
	held     *model.Holds
}

// load reads the file, but for the services that wanted refuses. What the decoder refuses, since another version wrote it, is
// a refused record as in etcd.
func (s *snapshotter) load(decoder *decoder, wanted func(service []byte) bool) (state snapshotState, err error) {
	file, err := os.Open(s.path)
	if err != nil {
		return state, fmt.Errorf("read snapshot: %w", err)
	}
	defer file.Close()
	root := decoder.parser.root
	full := []byte(root)
	documents := map[string]document{}
	header, err := readSnapshot(file, s.prefix, func(key []byte, revision int64, value []byte) {
		full = append(full[:len(root)], key...)
		if service, ok := decoder.parser.serviceOf(full); ok && !wanted(service) {
			return
		}
		record := decoder.put(full, value, revision)
		state.records = append(state.records, record)
		keep(documents, &record, value)
	})
	decoder.warned.flush()
	if err != nil {
		return snapshotState{}, fmt.Errorf("snapshot %q %w", s.path, err)
	}
	state.revision, state.written = header.Revision, header.Written
	state.held, state.partial = header.Held, header.Partial
	s.mu.Lock()
	defer s.mu.Unlock()
	keepRefused(documents, nil)
	s.documents = documents
	return state, nil
}
