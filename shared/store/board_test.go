package store

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// reader is who hears a board.
type reader struct {
	mu   sync.Mutex
	bans map[string]string // who told of it, by service and address
}

func (r *reader) hear(service string, address netip.AddrPort, ban *model.ToldBan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := service + " " + address.String()
	if delete(r.bans, key); ban != nil {
		r.bans[key] = ban.Agent
	}
}

func (r *reader) teller(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bans[key]
}

func newBoard(t *testing.T, cfg Config, agent string) (*Board, *reader) {
	t.Helper()
	r := &reader{bans: map[string]string{}}
	b, err := NewBoard(cfg, "host-1", agent, r.hear)
	if err != nil {
		t.Fatal(err)
	}
	b.Start()
	t.Cleanup(b.Close)
	return b, r
}

func banUntil(d time.Duration) *model.ToldBan {
	return &model.ToldBan{Reason: "proof", Until: time.Now().Add(d).UTC()}
}

func TestBoard(t *testing.T) {
	cfg := commonConfig(t)
	one, heardByOne := newBoard(t, cfg, "caddy")
	two, heardByTwo := newBoard(t, cfg, "dns")
	address := netip.MustParseAddrPort("10.0.0.1:80")
	const key = "shop 10.0.0.1:80"

	one.Publish("shop", address, banUntil(time.Minute))
	eventually(t, "the neighbour hears of a ban", 5*time.Second, func() bool { return heardByTwo.teller(key) == "caddy" })
	if heardByOne.teller(key) != "" {
		t.Error("an agent hears of its own bans")
	}
	two.Publish("shop", address, banUntil(time.Minute)) // the key is the first one's
	time.Sleep(500 * time.Millisecond)
	if heardByOne.teller(key) != "" {
		t.Error("the second one took the key")
	}
	one.Withdraw("shop", address)
	eventually(t, "the second one writes it when the first takes it away", 5*time.Second, func() bool { return heardByOne.teller(key) == "dns" })
	late, heardLate := newBoard(t, cfg, "late")
	eventually(t, "who comes later hears of what stands", 5*time.Second, func() bool { return heardLate.teller(key) == "dns" })
	late.Close()
	two.Close()
	eventually(t, "an agent that ends takes its bans away", 5*time.Second, func() bool { return heardByOne.teller(key) == "" })
}

// A service that collapses must not become a storm of writes.
func TestBoardIsRateLimited(t *testing.T) {
	b, _ := newBoard(t, commonConfig(t), "caddy")
	begun := time.Now()
	for round := range 20 {
		for n := range 1000 {
			address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 80)
			if (n+round)%2 == 0 {
				b.Publish("shop", address, banUntil(time.Minute))
			} else {
				b.Withdraw("shop", address)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(3 * time.Second)
	b.Close()
	most := int(time.Since(begun).Seconds()*boardRate) + 2
	if b.writes > most || b.writes < 4 {
		t.Errorf("20,000 changes made %d transactions, at most %d are allowed", b.writes, most)
	}
	if len(b.wanted) != 500 {
		t.Errorf("%d bans stand", len(b.wanted))
	}
}

// etcd dies and comes back: what stands then is told.
func TestBoardOutlivesEtcd(t *testing.T) {
	t.Parallel()
	server := startEtcd(t)
	cfg := configOf(server, DefaultPrefix)
	one, _ := newBoard(t, cfg, "caddy")
	_, heard := newBoard(t, cfg, "dns")
	first, second := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	one.Publish("shop", first, banUntil(time.Minute))
	eventually(t, "it is told", 5*time.Second, func() bool { return heard.teller("shop 10.0.0.1:80") == "caddy" })
	server.close()
	one.Withdraw("shop", first)
	one.Publish("shop", second, banUntil(time.Minute))
	server.start(t)
	eventually(t, "what has changed meanwhile is told", 45*time.Second, func() bool {
		return heard.teller("shop 10.0.0.1:80") == "" && heard.teller("shop 10.0.0.2:80") == "caddy"
	})
}
