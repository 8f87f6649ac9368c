package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

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
		record.Err = brief(fmt.Errorf("key %q: %w", key, record.Err))
		return record
	}
	if len(problems) > 0 {
		d.warned.report(string(key), revision, brief(model.Problems(problems)))
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

// locate returns what a key is of. Names and addresses that can't be any are cut: etcd takes keys of 1.5 MiB.
func (d *decoder) locate(key []byte, revision int64) model.Record {
	kind, name, address, err := d.parser.parse(key)
	if err != nil {
		name, address, err = shorten(name), shorten(address), brief(err)
	}
	return model.Record{Kind: kind, Name: name, Address: address, Revision: revision, Err: err}
}

// The longest names and errors that an agent holds of what is refused, in bytes: there may be 200,000.
const (
	maxShown = 256
	maxBrief = 768
)

// shorten cuts a name that is too long to be one, so that it still differs from all others.
func shorten(name string) string {
	if len(name) <= maxShown {
		return name
	}
	return fmt.Sprintf("%s… (%d bytes, SHA-256 %.8x)", cut(name, maxShown/2), len(name), sha256.Sum256([]byte(name)))
}

// brief returns an error whose text is short: a value of a megabyte may have a hundred faults. The command line tells all.
func brief(err error) error {
	text := err.Error()
	if len(text) <= maxBrief {
		return errors.New(text) // without what the error holds
	}
	return fmt.Errorf("%s… (%d more bytes of it are left out)", cut(text, maxBrief), len(text)-maxBrief)
}

// cut returns the beginning of a text, of so many bytes at most, and whole letters.
func cut(text string, most int) string {
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.Clone(text[:most])
}

const (
	// maxWarned bounds what is remembered of keys that were warned of. Beyond, a line may come twice.
	maxWarned = 4096
	// maxWarnings is how many lines come at once, one a second from then on; a field unknown to this version may be in 200,000
	// instances.
	maxWarnings = 20
	// summaryEvery is the time between two lines that tell how many were left out.
	summaryEvery = 10 * time.Second
)

// warnings logs the values that this version doesn't wholly understand, once for each revision of a key, and not again
// when everything is read again. Values that are refused are the Sink's to log.
type warnings struct {
	logger           *slog.Logger
	seen             map[string]int64 // revision by key
	lines, summaries *rate.Limiter
	hidden           int // lines that were left out since the last summary
}

func newWarnings(logger *slog.Logger) *warnings {
	return &warnings{
		logger: logger, seen: map[string]int64{},
		lines: rate.NewLimiter(1, maxWarnings), summaries: rate.NewLimiter(rate.Every(summaryEvery), 1),
	}
}

func (w *warnings) report(key string, revision int64, problems error) {
	if w.seen[key] == revision {
		return
	}
	if len(w.seen) >= maxWarned {
		clear(w.seen)
	}
	w.seen[key] = revision
	if !w.lines.Allow() {
		w.hidden++
		return
	}
	w.logger.Warn("configuration record taken, but not all of it is understood", "key", key, "revision", revision,
		"problems", problems.Error())
}

func (w *warnings) forget(key string) { delete(w.seen, key) }

// flush ends a list or a change: it tells how many lines were left out.
func (w *warnings) flush() {
	if w.hidden > 0 && w.summaries.Allow() {
		w.logger.Warn("more configuration records taken, but not all of them is understood", "records", w.hidden)
		w.hidden = 0
	}
}
