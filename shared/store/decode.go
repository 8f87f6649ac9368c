package store

import (
	"fmt"
	"log/slog"

	"github.com/ufc-mesh/ufc/shared/model"
)

// decoder turns keys and values into records. It isn't safe for concurrent use.
type decoder struct {
	parser keyParser
	warned *warnings
}

func newDecoder(keys keyspace, warned *warnings) *decoder {
	return &decoder{parser: keyParser{keyspace: keys}, warned: warned}
}

// put returns the record of a key that has a value. What is wrong with it stands in its Err.
func (d *decoder) put(key, value []byte, revision int64) model.Record {
	record := d.locate(key, revision)
	if record.Err != nil {
		return record
	}
	var problems []model.Problem
	switch record.Kind {
	case model.KindService:
		record.Service, problems, record.Err = model.ParseService(record.Name, value)
	case model.KindInstances:
		record.Instance, problems, record.Err = model.ParseInstance(record.Address, value)
	case model.KindTopology:
		record.Topology, problems, record.Err = model.ParseTopology(value)
	case model.KindBan:
		record.Ban, problems, record.Err = model.ParseBan(record.Name, record.Address, value)
	case model.KindConfirm:
		record.Confirm, problems, record.Err = model.ParseConfirmation(record.Name, value)
	}
	if record.Err != nil {
		record.Service, record.Instance, record.Topology, record.Ban, record.Confirm = nil, nil, nil, nil, nil
		record.Err = fmt.Errorf("key %q: %w", key, record.Err)
		return record
	}
	if len(problems) > 0 {
		d.warned.report(string(key), revision, model.Problems(problems))
	}
	return record
}

// deleted returns the record of a key that is gone. An odd key that is gone isn't refused any more.
func (d *decoder) deleted(key []byte, revision int64) model.Record {
	record := d.locate(key, revision)
	record.Deleted, record.Err = true, nil
	d.warned.forget(string(key))
	return record
}

func (d *decoder) locate(key []byte, revision int64) model.Record {
	kind, name, address, err := d.parser.parse(key)
	return model.Record{Kind: kind, Name: name, Address: address, Revision: revision, Err: err}
}

const (
	// maxWarned bounds what is remembered of keys that were warned of. Beyond, a line may come twice.
	maxWarned = 4096
	// maxWarnings bounds the lines of one list or change; a field unknown to this version may be in 200,000 instances.
	maxWarnings = 20
)

// warnings logs the values that this version doesn't wholly understand, once for each revision of a key, and not again
// when everything is read again. Values that are refused are the Sink's to log.
type warnings struct {
	logger *slog.Logger
	seen   map[string]int64 // revision by key
	lines  int              // since the last flush
	hidden int
}

func newWarnings(logger *slog.Logger) *warnings {
	return &warnings{logger: logger, seen: map[string]int64{}}
}

func (w *warnings) report(key string, revision int64, problems model.Problems) {
	if w.seen[key] == revision {
		return
	}
	if len(w.seen) >= maxWarned {
		clear(w.seen)
	}
	w.seen[key] = revision
	if w.lines++; w.lines > maxWarnings {
		w.hidden++
		return
	}
	w.logger.Warn("configuration record taken, but not all of it is understood", "key", key, "revision", revision,
		"problems", problems.Error())
}

func (w *warnings) forget(key string) { delete(w.seen, key) }

// flush ends a list or a change: it tells how many lines were left out.
func (w *warnings) flush() {
	if w.hidden > 0 {
		w.logger.Warn("more configuration records taken, but not all of them is understood", "records", w.hidden)
	}
	w.lines, w.hidden = 0, 0
}
