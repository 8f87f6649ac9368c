package store

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// boardRig is one agent's Board, and what it was told.
type boardRig struct {
	*Board
	t testing.TB

	mu    sync.Mutex
	bans  map[string]string // by "service address", who says so
	calls int
}

// newBoard starts a Board of an agent on a host, with a follower of its own. Both end with the test.
func newBoard(t testing.TB, cfg Config, host, agent string, adjust ...func(*Board)) *boardRig {
	t.Helper()
	f, _ := follow(t, cfg, quick)
	r := &boardRig{t: t, bans: map[string]string{}}
	board, err := NewBoard(f, host, agent, r.took)
	if err != nil {
		t.Fatal(err)
	}
	r.Board = board
	for _, change := range adjust {
		change(board)
	}
	board.Start()
	t.Cleanup(board.Close)
	return r
}

func (r *boardRig) took(service string, address netip.AddrPort, ban *model.ToldBan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if at := service + " " + address.String(); ban != nil {
		r.bans[at] = ban.Agent + ": " + ban.Detail
	} else if _, ok := r.bans[at]; ok {
		delete(r.bans, at)
	} else {
		r.t.Errorf("told that the ban of %s is over, of which there was none", at)
	}
}

// told waits until exactly these bans of others are known: "service address who: detail".
func (r *boardRig) told(want ...string) {
	r.t.Helper()
	var got []string
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s was told of %q, want %q", r.agent, got, want)
		}
	}()
	eventually(r.t, "what is told", 20*time.Second, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		got = nil
		for at, who := range r.bans {
			got = append(got, at+" "+who)
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// has waits until so many bans of others are known.
func (r *boardRig) has(count int) {
	r.t.Helper()
	eventually(r.t, "what is told", 20*time.Second, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.bans) == count
	})
}

func (r *boardRig) ban(n int, detail string) { r.Publish("shop", instance(n), banned(detail)) }
func (r *boardRig) back(n int)               { r.Withdraw("shop", instance(n)) }

func instance(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 80)
}

func banned(detail string) model.ToldBan {
	return model.ToldBan{Reason: "proof", Detail: detail, Since: time.Now(), Until: time.Now().Add(time.Minute)}
}

// boards reads what is published: "host/service/address" to agent and detail, and the leases.
func (w *writer) boards() (bans map[string]string, leases map[int64]bool) {
	w.t.Helper()
	bans, leases = map[string]string{}, map[int64]bool{}
	folder := strings.TrimSuffix(w.root, "config/") + "bans/"
	answer, err := w.client.Get(testContext(w.t), folder, clientv3.WithPrefix())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, kv := range answer.Kvs {
		ban, warnings, err := model.ParseToldBan("", "", kv.Value)
		if err != nil || len(warnings) > 0 {
			w.t.Fatalf("%s: %s: %v, %v", kv.Key, kv.Value, err, warnings)
		}
		bans[strings.TrimPrefix(string(kv.Key), folder)] = ban.Agent + ": " + ban.Detail
		leases[kv.Lease] = true
	}
	return bans, leases
}

// published waits until exactly these bans are in etcd: "host/service/address who: detail".
func (w *writer) published(want ...string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("published %q", want), 20*time.Second, func() bool {
		bans, _ := w.boards()
		var got []string
		for _, key := range slices.Sorted(maps.Keys(bans)) {
			got = append(got, key+" "+bans[key])
		}
		return slices.Equal(got, want)
	})
}

func (w *writer) leases() int {
	w.t.Helper()
	answer, err := w.client.Leases(testContext(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	return len(answer.Leases)
}
