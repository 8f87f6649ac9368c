package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// poisoned is a mesh into whose etcd a test writes what no tool of UFC's would.
type poisoned struct {
	*mesh
	client *clientv3.Client
	one    *backend // the instance of all services
	root   string   // of the configuration's keys
}

func startPoisoned(t *testing.T) *poisoned {
	t.Helper()
	one := newBackend(t, "one")
	m, e := startExternal(t, service("shop-web", "", one)+"---\n{kind: Topology, idcs: {bj-a: {logical: north}}}\n")
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{fmt.Sprintf("http://127.0.0.1:%d", e.port)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	m.untilCurrent()
	return &poisoned{mesh: m, client: client, one: one, root: "/ufc/v1/config/"}
}

// commit writes and deletes in one transaction.
func (p *poisoned) commit(operations ...clientv3.Op) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	if _, err := p.client.Txn(ctx).Then(operations...).Commit(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *poisoned) put(key, value string) clientv3.Op { return clientv3.OpPut(p.root+key, value) }

// ports are those of the agent's and of the DNS's memory.
func (p *poisoned) ports() map[string]int {
	return map[string]int{"the agent": p.agent, "the DNS": p.callback}
}

// memory is query, with the patience that queries want.
func (p *poisoned) memory(port int, selector string) string {
	p.t.Helper()
	for {
		switch a := p.query(port, selector); a.status {
		case http.StatusOK:
			return a.body
		case http.StatusTooManyRequests:
			time.Sleep(100 * time.Millisecond)
		default:
			p.t.Fatalf("%s: %d %s", selector, a.status, a.body)
		}
	}
}

// syncInfo is what sync_info says of refused records.
type syncInfo struct {
	Count     int `json:"rejected_count"`
	Rejected  []rejection
	Source    string
	Revision  int64
	Instances int
}

type rejection struct{ Error string }

func (p *poisoned) sync(port int) (info syncInfo, size int) {
	p.t.Helper()
	body := p.memory(port, "sync_info")
	var answer struct {
		Sync syncInfo `json:"sync_info"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		p.t.Fatalf("%v: %s", err, body)
	}
	return answer.Sync, len(body)
}

// refusals is what the agent's metric has counted of all kinds.
func (p *poisoned) refusals() (sum float64) {
	for _, kind := range []string{"Service", "Instances", "Topology", "Ban", "unknown"} {
		sum += p.metric(fmt.Sprintf("ufc_config_rejected_total{kind=%q}", kind))
	}
	return sum
}

// poison is a record that is refused. Each has a service of its own, NAME, whose good records are there before and after.
type poison struct{ name, key, value, want string }

// badInstances are values of the instance at address.
func badInstances(address string) (all []poison) {
	f := func(name, format, want string) {
		all = append(all, poison{name, "instances/NAME/" + address, strings.ReplaceAll(format, "A", address), want})
	}
	f("empty", "", "not JSON")
	f("cut off", `{"address":"A"`, "not JSON")
	f("twice", `{"address":"A"}{"address":"A"}`, "not JSON")
	f("null", "null", "is not a mapping")
	f("list", `[{"address":"A"}]`, "is not a mapping")
	f("not a number", `{"address":"A","weight":NaN}`, "not JSON")
	f("infinite", `{"address":"A","weight":1e999}`, "weight")
	f("negative", `{"address":"A","weight":-1}`, "weight: -1 is not between")
	f("fraction", `{"address":"A","weight":1.5}`, "not a whole number")
	f("text for a number", `{"address":"A","weight":"100"}`, "weight")
	f("null field", `{"address":"A","weight":null}`, "weight: is null")
	f("field twice", `{"address":"A","weight":1,"weight":2}`, "weight: given twice")
	f("label twice", `{"address":"A","labels":{"v":"1","v":"2"}}`, "labels.v: given twice")
	f("state", `{"address":"A","state":"sleepy"}`, "state")
	f("another address", `{"address":"10.9.8.7:80"}`, "is not the address in the key")
	f("no address", `{"weight":1}`, "address")
	f("port 0", `{"address":"127.0.0.1:0"}`, "port 0")
	f("zone", `{"address":"[fe80::1%25eth0]:80"}`, "zone")
	f("a document", `{"kind":"Service","name":"NAME"}`, "address")
	f("deep", `{"address":"A","x":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+"}", "nested deeper")
	f("deepest", strings.Repeat(`{"a":`, 10_000), "not JSON")
	f("latin 1", "{\"address\":\"A\",\"idc\":\"b\xe4\"}", "not UTF-8")
	f("half a pair", `{"address":"A","idc":"\ud800"}`, "surrogate")
	f("zero bytes", "{\"address\":\"A\",\x00}", "not JSON")
	f("large", `{"address":"A","idc":"`+strings.Repeat("x", 1_400_000)+`"}`, "over the limit")
	return all
}

// badDocuments are values of the Service document.
func badDocuments() []poison {
	const service, start = "services/NAME", `{"kind":"Service","name":"NAME",`
	return []poison{
		{"service: not a number", service, start + `"ban":{"max_ratio":NaN}}`, "not JSON"},
		{"service: ratio", service, start + `"ban":{"max_ratio":-1}}`, "ban.max_ratio: -1"},
		{"service: other name", service, `{"kind":"Service","name":"other"}`, "is not the name in the key"},
		{"service: other kind", service, `{"kind":"Topology","name":"shop-web"}`, "is not Service"},
		{"service: number for a time", service, start + `"timeouts":{"normal":{"read":5}}}`, "timeouts.normal.read"},
		{"service: expression", service, start + `"routes":[{"match":{"headers":{"a":{"regex":"("}}}}]}`, "regex"},
		{"service: large", service, start + `"owner":"` + strings.Repeat("x", 1_400_000) + `"}`, "over the limit"},
		{"service: a megabyte of faults", service, start + `"drop":[1` + strings.Repeat(",1", 400_000) + "]}", "drop[0]"},
	}
}

// oddKeys are those that no record may have. Nothing is there before and after.
func oddKeys(address string) (all []poison) {
	f := func(key, want string) {
		all = append(all, poison{fmt.Sprintf("key %.40q", key), key, `{"address":"` + address + `"}`, want})
	}
	f("", "is neither")
	f("x", "is neither")
	f("NAME", "is neither")
	f("topology/NAME", "is neither")
	f("services/", "is missing")
	f("services/Shop", "is not a name")
	f("services/NAME/x", "is not a name")
	f("services/shop web", "is not a name")
	f("services/i", "reserved")
	f("services/\xff\xfe", "is not a name")
	f("services/a\n[ERROR] forged", "is not a name")
	f("services/\u202egnp.exe", "is not a name")
	f("services/"+strings.Repeat("x", 100_000), "is not a name")
	f("instances/NAME", "is neither")
	f("instances/NAME/", "not an address")
	f("instances//"+address, "is missing")
	f("instances/../"+address, "is not a name")
	f("instances/NAME/localhost:80", "not an address")
	f("instances/NAME/10.0.0.1", "not an address")
	f("instances/NAME/10.0.0.1:080", "must be written")
	f("instances/NAME/10.0.0.1:99999", "not an address")
	f("instances/NAME/010.0.0.1:80", "not an address")
	f("instances/NAME/"+address+"/", "not an address")
	f("instances/NAME/"+address+" ", "not an address")
	f("instances/NAME/[2001:DB8::1]:80", "must be written")
	f("instances/NAME/[::]:80", "address")
	f("bans/NAME/"+address+"0000000", "not an address")
	f("bans/NAME", "is neither")
	for _, odd := range []string{"127.0.0.1:0", "[fe80::1%eth0]:80", "[::ffff:10.0.0.1]:80", "255.255.255.255:80"} {
		key := "instances/NAME/" + odd
		all = append(all, poison{key, key, `{"address":"` + odd + `"}`, odd})
	}
	return all
}

// One record's trouble stays one record's: whatever stands in it, its last good version goes on in both programs, what came
// with it counts, a metric, a line and a row tell of it, and they stop when it is mended.
func TestPoison(t *testing.T) {
	t.Parallel()
	p := startPoisoned(t)
	rows := append(append(badInstances(p.one.address), badDocuments()...), oddKeys(p.one.address)...)
	rows = append(rows, poison{"ban", "bans/NAME/" + p.one.address, `{"until":"soon"}`, "until"})
	for n := range rows {
		name := fmt.Sprintf("row-%d", n)
		rows[n].key, rows[n].value = strings.ReplaceAll(rows[n].key, "NAME", name), strings.ReplaceAll(rows[n].value, "NAME", name)
		p.commit(p.good(name, "services/"+name), p.good(name, "instances/"+name+"/"+p.one.address))
	}
	p.untilCurrent()
	logged, total := len(p.caddy.output()), p.refusals()
	for n := range rows { // and with each bad record a good one
		p.commit(p.put(rows[n].key, rows[n].value), p.put(fmt.Sprintf("services/with-%d", n), fmt.Sprintf(`{"kind":"Service","name":"with-%d"}`, n)))
	}
	p.untilCurrent()

	for name, port := range p.ports() {
		p.told(name, port, rows)
		names := p.memory(port, "config_info")
		for n, row := range rows {
			service := fmt.Sprintf("row-%d", n)
			if now := p.memory(port, "config_info^"+service); !strings.Contains(now, `"owner":"`+service+`"`) || strings.Count(now, `"weight":77`) != 1 ||
				strings.Count(now, `"address":`) != 1 {
				t.Errorf("%s, %s: in force is %s", row.name, name, now)
			}
			if !strings.Contains(names, fmt.Sprintf(`"with-%d"`, n)) {
				t.Errorf("%s, %s: what came with it isn't in force", row.name, name)
			}
		}
	}
	if now := p.refusals(); now != total+float64(len(rows)) {
		t.Errorf("%v refusals are counted of %d", now-total, len(rows))
	}
	text := p.caddy.output()[logged:]
	if lines := strings.Count(text, "configuration record refused"); lines < 20 || lines > len(rows) || len(text) > 100_000 {
		t.Errorf("the log has %d lines and %d bytes", lines, len(text))
	}
	for n := range rows {
		p.ask(fmt.Sprintf("row-%d", n), "/").must(t, http.StatusOK, "")
	}
	p.keptOverRestart(rows)

	for n, row := range rows {
		if service := fmt.Sprintf("row-%d", n); row.key == "services/"+service || row.key == "instances/"+service+"/"+p.one.address {
			p.commit(p.good(service, row.key))
		} else {
			p.commit(clientv3.OpDelete(p.root + row.key))
		}
	}
	p.untilCurrent()
	for name, port := range p.ports() {
		p.told(name, port, nil)
	}
	p.topology()
	p.unknownFields()
}

// good writes the good value of a key of a service's.
func (p *poisoned) good(service, key string) clientv3.Op {
	if strings.HasPrefix(key, "services/") {
		return p.put(key, fmt.Sprintf(`{"kind":"Service","name":%q,"owner":%q}`, service, service))
	}
	return p.put(key, fmt.Sprintf(`{"address":%q,"weight":77}`, p.one.address))
}

// told checks that an agent tells of these records, and of no others.
func (p *poisoned) told(name string, port int, rows []poison) {
	p.t.Helper()
	info, size := p.sync(port)
	if info.Count != len(rows) || len(info.Rejected) != len(rows) || size > 2000+1000*len(rows) {
		p.t.Errorf("%s tells of %d refused records in %d rows, %d bytes, want %d", name, info.Count, len(info.Rejected), size, len(rows))
	}
	for _, row := range rows {
		key := fmt.Sprintf("key %.140q", p.root+row.key)
		if !slices.ContainsFunc(info.Rejected, func(r rejection) bool {
			return strings.HasPrefix(r.Error, key) && strings.Contains(r.Error, row.want)
		}) {
			p.t.Errorf("%s, %s: no row has %q:\n%.3000v", row.name, name, row.want, info.Rejected)
		}
	}
}

// keptOverRestart: the last good versions are in the snapshot, so that a restart beside bad values is no loss either.
func (p *poisoned) keptOverRestart(rows []poison) {
	p.t.Helper()
	p.caddy.stop()
	p.startCaddy(externalEtcd)
	eventually(p.t, 20*time.Second, func() error { // the snapshot is at etcd's revision
		if info, _ := p.sync(p.agent); info.Source != "etcd" {
			return fmt.Errorf("the configuration is from %s", info.Source)
		}
		return nil
	})
	p.told("the agent that was started again", p.agent, rows)
	for n := range rows {
		p.ask(fmt.Sprintf("row-%d", n), "/").must(p.t, http.StatusOK, "")
	}
}

// topology: of this there is one only.
func (p *poisoned) topology() {
	p.t.Helper()
	f := func(value, want string) {
		p.t.Helper()
		p.commit(p.put("topology", value))
		p.untilCurrent()
		for name, port := range p.ports() {
			p.told(name, port, []poison{{"topology", "topology", value, want}})
			if now := p.memory(port, "config_info"); !strings.Contains(now, `"bj-a":{"logical":"north"}`) {
				p.t.Errorf("%s: in force is %s", name, now)
			}
		}
	}
	f(`{"kind":"Topology","drained":["nowhere"]}`, "is not one of idcs")
	f(`{"kind":"Topology","routes":{"north":[{"to":"north","weight":-1}]}}`, "north")
	f(`[]`, "is not a mapping")
	f(`{"kind":"Topology","idcs":{"bj-a":{"logical":"n","logical":"n"}}}`, "given twice")
}

// unknownFields: a newer version's fields are a warning, and the record is in force; many make few lines.
func (p *poisoned) unknownFields() {
	p.t.Helper()
	logged := len(p.caddy.output())
	p.commit(p.put("services/shop-web", `{"kind":"Service","name":"shop-web","owner":"newer","colour":{"deep":[1]}}`),
		p.put("instances/shop-web/"+p.one.address, fmt.Sprintf(`{"address":%q,"weight":7,"colour":"red"}`, p.one.address)))
	p.untilCurrent()
	if now := p.memory(p.agent, "config_info^shop-web"); !strings.Contains(now, `"owner":"newer"`) || !strings.Contains(now, `"weight":7`) {
		p.t.Errorf("a record with a field of a newer version isn't in force: %s", now)
	}
	if lines := strings.Count(p.caddy.output()[logged:], "not all of it is understood"); lines != 2 {
		p.t.Errorf("%d lines tell of two records", lines)
	}
	for number := range 500 {
		p.commit(p.put("services/canary", fmt.Sprintf(`{"kind":"Service","name":"canary","colour":%d}`, number)))
	}
	p.untilCurrent()
	if text := p.caddy.output()[logged:]; strings.Count(text, "\n") > 100 {
		p.t.Errorf("500 records with unknown fields made %d lines", strings.Count(text, "\n"))
	}
}
