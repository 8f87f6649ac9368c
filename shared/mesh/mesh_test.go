package mesh

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadConfig names an etcd that nobody runs.
func deadConfig(t *testing.T) Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return Config{IDC: "bj-a", Store: store.Config{
		Endpoints: []string{"http://" + listener.Addr().String()}, Logger: slog.New(slog.DiscardHandler),
	}}
}

func acquire(t *testing.T, config Config) *Mesh {
	t.Helper()
	m, err := Acquire(config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOneMeshPerIdentity(t *testing.T) {
	config := deadConfig(t)
	first := acquire(t, config)
	config.IDC = "bj-b"
	second := acquire(t, config)
	if first.Agent != second.Agent || first.Agent.IDC() != "bj-b" {
		t.Errorf("the same mesh twice: %p and %p, IDC %s", first.Agent, second.Agent, first.Agent.IDC())
	}
	other := config
	other.Store.Prefix = "/other"
	third := acquire(t, other)
	if third.Agent == first.Agent {
		t.Error("another prefix is the same mesh")
	}
	third.Release()
	first.Start()
	second.Release()
	if idc := first.Agent.IDC(); idc != "bj-a" {
		t.Errorf("the IDC is %s after its configuration has gone, not the one of that which stays", idc)
	}
	again := acquire(t, config)
	if again.Agent != first.Agent {
		t.Error("the mesh ended while somebody used it")
	}
	first.Release()
	again.Release()
	last := acquire(t, config)
	defer last.Release()
	again.Release() // a second time: nobody else's hold may suffer
	if other := acquire(t, config); other.Agent != last.Agent {
		t.Error("a second release took the attachment from its new users")
	} else {
		other.Release()
	}
	if last.Agent == first.Agent {
		t.Error("the mesh outlived its last user")
	}
}

func TestDefaultsAndBadConfigs(t *testing.T) {
	m := acquire(t, deadConfig(t))
	defer m.Release()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if m.config.AgentID != host || m.config.Host != host || m.config.Store.Prefix != "/ufc/v1" {
		t.Errorf("defaults: %+v", m.config)
	}
	odd := deadConfig(t)
	odd.AgentID = "a/b"
	if _, err := Acquire(odd); err == nil || !strings.Contains(err.Error(), `agent_id "a/b"`) {
		t.Errorf("an odd id: %v", err)
	}
	bad := deadConfig(t)
	bad.Store.Endpoints = []string{"nowhere"}
	if _, err := Acquire(bad); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a bad endpoint: %v", err)
	}
}

func TestUselessSnapshotIsNoObstacle(t *testing.T) {
	config := deadConfig(t)
	config.Store.Snapshot = filepath.Join(t.TempDir(), "agent.snapshot")
	if err := os.WriteFile(config.Store.Snapshot, []byte("not a snapshot"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	config.Store.Logger = slog.New(slog.NewTextHandler(&log, nil))
	m := acquire(t, config)
	m.Release()
	if !strings.Contains(log.String(), config.Store.Snapshot) {
		t.Errorf("the log doesn't name the file: %s", log.String())
	}
}

// The share is the strictest of all holds', from etcd's next word on: a configuration that is only tried lets nothing go.
func TestProtect(t *testing.T) {
	config := deadConfig(t)
	config.Protect = 0.5
	first := acquire(t, config)
	var records []model.Record
	for n := range 10 {
		i := model.DefaultInstance()
		i.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 80)
		records = append(records, model.Record{Kind: model.KindInstances, Name: "shop", Address: i.Address.String(), Instance: &i})
	}
	first.guard.Replace(1, records)
	first.guard.Replace(2, nil)
	held := func(want int) {
		t.Helper()
		if info := first.syncInfo(); info.Held.Instances != want || info.Instances != want {
			t.Errorf("%d of %d instances are held, want %d", info.Held.Instances, info.Instances, want)
		}
	}
	held(10)
	config.Protect = 0
	second := acquire(t, config)
	second.Release()
	first.guard.Confirm(3)
	held(10)
	second = acquire(t, config)
	defer second.Release()
	first.guard.Confirm(4)
	held(10)
	first.Release()
	first.guard.Confirm(5)
	held(0)
}

func TestQuery(t *testing.T) {
	config := deadConfig(t)
	config.Store.Username, config.Store.Password = "root", "hunter2"
	m := acquire(t, config)
	defer m.Release()
	answer, err := m.Query("sync_info")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), `{"sync_info":{"agent_id":`) || !strings.Contains(string(text), `"source":"none"`) ||
		!strings.Contains(string(text), `"follow":["all"]`) || !strings.Contains(string(text), `"presence":{}`) ||
		!strings.Contains(string(text), `"bans":{"told":0,"waiting":0,"heard":0,"leases_lost":0}`) {
		t.Errorf("sync_info: %s", text)
	}
	if strings.Contains(string(text), "hunter2") {
		t.Error("the answer tells the password")
	}
	if answer, err = m.Query("config_info"); err != nil || answer["config_info"] == nil {
		t.Errorf("config_info: %v, %v", answer, err)
	}
	for _, path := range []string{"", "sync_info^more", "nothing"} {
		if _, err := m.Query(path); !errors.Is(err, agent.ErrSelector) {
			t.Errorf("%q: %v", path, err)
		}
	}
}
