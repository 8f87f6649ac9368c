package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// A service's 200,000 values that are all bad are counted, and told of in bounded memory, rows and lines.
func TestFloodOfRefusedRecords(t *testing.T) {
	const many = 200_000
	why := errors.New(`key "…": address: "x" is not an address such as 10.0.0.1:8080 or [2001:db8::1]:8080`)
	records := make([]model.Record, many)
	for n := range records {
		records[n] = model.Record{
			Kind: model.KindInstances, Name: "shop", Address: fmt.Sprintf("10.%d.%d.%d:80", n>>16, n>>8&255, n&255), Revision: 7, Err: why,
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := New(slog.New(slog.NewTextHandler(&log, nil)))
		f := func(count, rows int, total uint64, lines int) {
			t.Helper()
			if c.RejectedCount() != count || len(c.Rejected()) != rows || c.RejectedTotals()[model.KindInstances] != total {
				t.Errorf("%d are refused, %d rows tell of them, %d were; want %d, %d, %d",
					c.RejectedCount(), len(c.Rejected()), c.RejectedTotals()[model.KindInstances], count, rows, total)
			}
			if got := strings.Count(log.String(), "\n"); got != lines {
				t.Errorf("%d lines, want %d:\n%.3000s", got, lines, &log)
			}
			log.Reset()
		}
		before := heap()
		good := instanceRecord("cart", "10.0.0.1:80")
		c.Replace(7, append(records[:many:many], good))
		f(many, maxRejections, many, rejectionLines+1)
		if used := int64(heap()) - int64(before); used > 24<<20 {
			t.Errorf("%d bytes are held", used)
		}
		c.Replace(8, records) // read anew: nothing of it is news
		f(many, maxRejections, many, 0)

		// The rows that are free again go to those that weren't told; a steady stream of refusals is told at a steady rate.
		for n := range maxRejections {
			address := c.Rejected()[0].Address
			c.Apply(int64(9+n), []model.Record{instanceRecord("shop", address)})
		}
		f(many-maxRejections, 0, many, 0)
		c.Replace(3000, records[many/2:])
		if len(c.Rejected()) != maxRejections {
			t.Errorf("%d rows", len(c.Rejected()))
		}
		log.Reset()
		for n := range 600 { // a minute
			time.Sleep(100 * time.Millisecond)
			c.Apply(int64(3001+n), []model.Record{{Kind: model.KindService, Name: "shop", Revision: int64(3001 + n), Err: why}})
		}
		if got := strings.Count(log.String(), "\n"); got < 60 || got > 60+rejectionLines+7 {
			t.Errorf("%d lines in a minute", got)
		}
		if !strings.Contains(log.String(), "more configuration records refused") || !strings.Contains(log.String(), "refused_now=100001") {
			t.Errorf("what is left out isn't told:\n%.3000s", &log)
		}
		log.Reset()
		c.Replace(4000, nil)
		f(0, 0, many, 0)
	})
}

func TestForgetRejections(t *testing.T) {
	c := newCatalog()
	c.Replace(1, []model.Record{
		refused(serviceRecord("shop", 1)), refused(instanceRecord("shop", "10.0.0.1:80")), refused(serviceRecord("cart", 1)),
	})
	c.rejections.forget("shop")
	if rows := c.Rejected(); len(rows) != 1 || rows[0].Name != "cart" || c.RejectedCount() != 1 {
		t.Errorf("%d are refused: %v", c.RejectedCount(), rows)
	}
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
