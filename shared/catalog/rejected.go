package catalog

import (
	"cmp"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Rejection is a record whose value was refused.
type Rejection struct {
	Kind     model.Kind `json:"kind"`
	Name     string     `json:"name,omitempty"`
	Address  string     `json:"address,omitempty"`
	Revision int64      `json:"revision"`
	Error    string     `json:"error"`
}

// Whoever writes 200,000 bad values must not fill each agent's memory, log and debug answers with them. So these are bounded,
// and the counts are not.
const (
	maxRejections  = 1000             // refused records that are told in full
	rejectionLines = 20               // log lines at once; from then on one a second
	summaryEvery   = 10 * time.Second // between two lines that tell how many were left out
)

// rejections are the records that are refused now. The lock of the Catalog guards them.
type rejections struct {
	rows      map[key]Rejection  // up to maxRejections of them
	revisions map[uint64]refusal // of all, by the hash of their keys: none is counted or logged twice
	totals    map[model.Kind]uint64
	seed      maphash.Seed

	logger           *slog.Logger
	lines, summaries *rate.Limiter
	hidden           int // lines that were left out since the last summary
}

// refusal is as much as is kept of each.
type refusal struct {
	revision int64
	service  uint64 // hash of its name
}

func newRejections(logger *slog.Logger) rejections {
	return rejections{
		rows: map[key]Rejection{}, revisions: map[uint64]refusal{}, totals: map[model.Kind]uint64{}, seed: maphash.MakeSeed(),
		logger: logger,
		lines:  rate.NewLimiter(1, rejectionLines), summaries: rate.NewLimiter(rate.Every(summaryEvery), 1),
	}
}

func (r *rejections) hash(k key) uint64 { return maphash.Comparable(r.seed, k) }

// add notes a refusal. One that is met again, as when everything is read anew, is neither counted nor logged twice.
func (r *rejections) add(record *model.Record) {
	k := keyOf(record)
	hash := r.hash(k)
	known, again := r.revisions[hash]
	again = again && known.revision == record.Revision
	if _, told := r.rows[k]; told && !again || !told && len(r.rows) < maxRejections {
		r.rows[k] = Rejection{
			Kind: record.Kind, Name: record.Name, Address: record.Address, Revision: record.Revision, Error: record.Err.Error(),
		}
	}
	if again {
		return
	}
	r.revisions[hash] = refusal{record.Revision, maphash.String(r.seed, record.Name)}
	r.totals[record.Kind]++
	if !r.lines.Allow() {
		r.hidden++
		return
	}
	r.logger.Warn("configuration record refused, the last good version stays", "kind", string(record.Kind),
		"name", record.Name, "address", record.Address, "revision", record.Revision, "error", record.Err)
}

// summarize tells how many lines were left out.
func (r *rejections) summarize() {
	if r.hidden > 0 && r.summaries.Allow() {
		r.logger.Warn("more configuration records refused, the last good versions stay", "records", r.hidden,
			"refused_now", len(r.revisions))
		r.hidden = 0
	}
}

// remove forgets a record that is good now, or gone.
func (r *rejections) remove(k key) {
	if len(r.revisions) > 0 {
		delete(r.rows, k)
		delete(r.revisions, r.hash(k))
	}
}

// retain forgets all but those that are refused among records, which are all there is.
func (r *rejections) retain(records []model.Record) {
	if len(r.revisions) == 0 {
		return
	}
	refused := map[uint64]bool{}
	for n := range records {
		if records[n].Err != nil {
			refused[r.hash(keyOf(&records[n]))] = true
		}
	}
	maps.DeleteFunc(r.rows, func(k key, _ Rejection) bool { return !refused[r.hash(k)] })
	maps.DeleteFunc(r.revisions, func(hash uint64, _ refusal) bool { return !refused[hash] })
}

// forget forgets the records of a service of which nothing is told any more.
func (r *rejections) forget(service string) {
	maps.DeleteFunc(r.rows, func(k key, _ Rejection) bool { return k.name == service })
	hash := maphash.String(r.seed, service)
	maps.DeleteFunc(r.revisions, func(_ uint64, of refusal) bool { return of.service == hash })
}

// Rejected returns the records that are refused now, sorted by kind, name and address: a thousand of them at most.
func (c *Catalog) Rejected() []Rejection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.rejections.rows), func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Address, b.Address))
	})
}

// RejectedCount returns how many records are refused now.
func (c *Catalog) RejectedCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.rejections.revisions)
}

// RejectedTotals returns how many values were refused so far, by kind.
func (c *Catalog) RejectedTotals() map[model.Kind]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.rejections.totals)
}
