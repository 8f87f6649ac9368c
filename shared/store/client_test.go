package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

func openClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// documents reads documents of JSON or YAML.
func documents(t testing.TB, texts ...string) []model.Document {
	t.Helper()
	docs, err := model.Read("test.yaml", []byte(strings.Join(texts, "\n---\n")))
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// instancesJSON writes an Instances document.
func instancesJSON(service string, addresses ...string) string {
	list := make([]string, len(addresses))
	for i, address := range addresses {
		list[i] = instanceJSON(address)
	}
	return fmt.Sprintf(`{"kind":"Instances","service":%q,"instances":[%s]}`, service, strings.Join(list, ","))
}

func plan(t testing.TB, c *Client, docs []model.Document) *Plan {
	t.Helper()
	plan, err := c.Plan(testContext(t), docs)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func apply(t testing.TB, c *Client, docs []model.Document) {
	t.Helper()
	if err := c.Apply(testContext(t), plan(t, c, docs)); err != nil {
		t.Fatal(err)
	}
}

// lines writes a plan as the tests compare it.
func lines(p *Plan) []string {
	var lines []string
	for i := range p.Changes {
		line := fmt.Sprintf("%s %s", p.Changes[i].Action, &p.Changes[i])
		if p.Changes[i].Leased {
			line += " leased"
		}
		lines = append(lines, line)
	}
	return lines
}

func TestPlanAndApply(t *testing.T) {
	cfg := commonConfig(t)
	c, w := openClient(t, cfg), newWriter(t, common, cfg.Prefix)
	f := func(docs []model.Document, want ...string) *Plan {
		t.Helper()
		p := plan(t, c, docs)
		if got := lines(p); !slices.Equal(got, want) {
			t.Errorf("plan:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if err := c.Apply(testContext(t), p); err != nil {
			t.Fatal(err)
		}
		for i := range p.Changes {
			if p.Changes[i].Action == Unchanged {
				continue
			}
			key := strings.TrimPrefix(c.keys.of(p.Changes[i].Kind, p.Changes[i].Name, p.Changes[i].Address), w.root)
			if got, _ := w.get(key); string(got) != string(p.Changes[i].New) {
				t.Errorf("key %q has %q, want %q", key, got, p.Changes[i].New)
			}
		}
		return p
	}
	topology := `{"kind":"Topology","idcs":{"bj-a":{"logical":"north"}}}`
	docs := documents(t, serviceJSON("shop"), instancesJSON("shop", "10.0.0.2:80", "10.0.0.1:80"), topology)
	p := f(docs, `create service "shop"`,
		`create instance "10.0.0.1:80" of service "shop"`, `create instance "10.0.0.2:80" of service "shop"`, `create topology`)
	if p.Count() != 4 {
		t.Errorf("%d changes, want 4", p.Count())
	}
	if p = f(docs, `unchanged service "shop"`,
		`unchanged instance "10.0.0.1:80" of service "shop"`, `unchanged instance "10.0.0.2:80" of service "shop"`,
		`unchanged topology`); p.Count() != 0 {
		t.Errorf("%d changes, want none", p.Count())
	}
	f(documents(t, `{"level":1,"kind":"Service","name":"shop"}`), `update service "shop"`)
	f(documents(t, `{"name":"shop","kind":"Service","level":1}`), `unchanged service "shop"`)
	f(documents(t, instancesJSON("shop", "10.0.0.3:80", "10.0.0.1:80")), `unchanged instance "10.0.0.1:80" of service "shop"`,
		`delete instance "10.0.0.2:80" of service "shop"`, `create instance "10.0.0.3:80" of service "shop"`)
	// What others wrote in another form means the same; what can't be read, or isn't understood, is written anew.
	w.put("instances/shop/10.0.0.1:80", `{"state":"up", "idc":"bj-a", "address":"10.0.0.1:80"}`)
	w.put("instances/shop/10.0.0.3:80", `{"idc":"bj-a", "address":"10.0.0.3:80", "x":1}`)
	w.put("instances/shop/odd", `{`)
	w.put("services/shop", `{`)
	f(documents(t, instancesJSON("shop", "10.0.0.3:80", "10.0.0.1:80"), serviceJSON("shop")),
		`unchanged instance "10.0.0.1:80" of service "shop"`, `update instance "10.0.0.3:80" of service "shop"`,
		`delete instance "odd" of service "shop"`, `update service "shop"`)
	f(documents(t, instancesJSON("shop")),
		`delete instance "10.0.0.1:80" of service "shop"`, `delete instance "10.0.0.3:80" of service "shop"`)

	if _, err := c.Plan(testContext(t), append(documents(t, serviceJSON("shop")), documents(t, serviceJSON("shop"))...)); err == nil {
		t.Error("the same document twice was planned")
	}
}

func TestLeasedInstances(t *testing.T) {
	cfg := commonConfig(t)
	c, w := openClient(t, cfg), newWriter(t, common, cfg.Prefix)
	lease, err := w.client.Grant(testContext(t), 600)
	if err != nil {
		t.Fatal(err)
	}
	leased := clientv3.WithLease(lease.ID)
	w.put("instances/shop/10.0.0.1:80", instanceJSON("10.0.0.1:80"), leased)
	w.put("instances/shop/10.0.0.2:80", `{"address":"10.0.0.2:80","weight":7}`, leased)
	w.putInstance("shop", "10.0.0.3:80")

	p := plan(t, c, documents(t, instancesJSON("shop", "10.0.0.2:80", "10.0.0.4:80")))
	want := []string{
		`unchanged instance "10.0.0.1:80" of service "shop" leased`, `unchanged instance "10.0.0.2:80" of service "shop" leased`,
		`delete instance "10.0.0.3:80" of service "shop"`, `create instance "10.0.0.4:80" of service "shop"`,
	}
	if got := lines(p); !slices.Equal(got, want) {
		t.Errorf("plan:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if p.Changes[0].New != nil || p.Changes[1].New == nil {
		t.Error("a leased instance's wanted value: it must be there if the document names it, and only then")
	}
	if err := c.Apply(testContext(t), p); err != nil {
		t.Fatal(err)
	}
	entries, err := c.Get(testContext(t), model.KindInstances, "shop")
	if err != nil || len(entries) != 3 || !entries[0].Leased || !entries[1].Leased || entries[2].Leased {
		t.Errorf("entries %+v, error %v", entries, err)
	}
	if n, err := c.Delete(testContext(t), model.KindInstances, "shop"); n != 1 || !errors.Is(err, ErrLeased) {
		t.Errorf("deleted %d, error %v", n, err)
	}
	if value, leased := w.get("instances/shop/10.0.0.2:80"); !leased || !strings.Contains(string(value), "7") {
		t.Errorf("the leased key is %q, under a lease: %v", value, leased)
	}
}

func TestConflict(t *testing.T) {
	cfg := commonConfig(t)
	c, w := openClient(t, cfg), newWriter(t, common, cfg.Prefix)
	f := func(change func(), want string, texts ...string) {
		t.Helper()
		p := plan(t, c, documents(t, texts...))
		change()
		err := c.Apply(testContext(t), p)
		if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want a conflict about %s", err, want)
		}
	}
	f(func() { w.putService("new") }, `service "new"`, `{"kind":"Service","name":"new","level":1}`)
	f(func() { w.put("services/new", `{"kind":"Service","name":"new","level":5}`) }, `service "new"`,
		`{"kind":"Service","name":"new","level":1}`)
	if value, _ := w.get("services/new"); !strings.Contains(string(value), "5") {
		t.Errorf("the other's value was overwritten by %s", value)
	}
	f(func() { w.delete("services/new") }, `service "new"`, serviceJSON("new"))
	f(func() { w.put("topology", `{"kind":"Topology"}`) }, "topology", `{"kind":"Topology","idcs":{"a":{"logical":"b"}}}`)
	apply(t, c, documents(t, instancesJSON("shop", "10.0.0.1:80", "10.0.0.2:80")))
	f(func() { w.put("instances/shop/10.0.0.2:80", `{"address":"10.0.0.2:80","state":"drain"}`) },
		`instance "10.0.0.2:80" of service "shop": changed`, instancesJSON("shop", "10.0.0.3:80"))
	// The deletions weren't done, the addition before them was.
	entries, err := c.Get(testContext(t), model.KindInstances, "shop")
	if err != nil || len(entries) != 3 {
		t.Errorf("entries %+v, error %v", entries, err)
	}
	apply(t, c, documents(t, instancesJSON("shop", "10.0.0.3:80")))
	if entries, err = c.Get(testContext(t), model.KindInstances, "shop"); err != nil || len(entries) != 1 {
		t.Errorf("after planning again: entries %+v, error %v", entries, err)
	}
}

// At no revision has a service that moves fewer instances than before or after.
func TestAdditionsComeFirst(t *testing.T) {
	cfg := commonConfig(t)
	c := openClient(t, cfg)
	addresses := func(network int) (all []string) {
		for i := range 300 {
			all = append(all, fmt.Sprintf("10.%d.%d.%d:80", network, i/250, i%250))
		}
		return all
	}
	apply(t, c, documents(t, instancesJSON("shop", addresses(1)...)))
	_, sink := follow(t, cfg)
	sink.awaitReplace(1)
	apply(t, c, documents(t, instancesJSON("shop", addresses(2)...)))
	sink.await("the new instances alone", 10*time.Second, func() bool {
		_, old := sink.state["Instances/shop/10.1.1.49:80"]
		return !old && len(sink.state) == 300
	})
	if sink.smallest < 300 {
		t.Errorf("in between there were %d instances of 300", sink.smallest)
	}
}

func TestBatches(t *testing.T) {
	change := func(action Action, kind model.Kind, size int) Change {
		return Change{Action: action, Kind: kind, New: make([]byte, size)}
	}
	f := func(changes []Change, want string) {
		t.Helper()
		var got []string
		for _, batch := range batches(changes) {
			got = append(got, fmt.Sprintf("%d %s %s", len(batch), batch[0].Action, batch[0].Kind))
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("batches %s, want %s", text, want)
		}
	}
	f(nil, "")
	f([]Change{
		change(Delete, model.KindService, 0), change(Delete, model.KindInstances, 0), change(Unchanged, model.KindService, 1),
		change(Update, model.KindInstances, 1), change(Create, model.KindInstances, 1), change(Create, model.KindInstances, 1),
		change(Update, model.KindTopology, 1), change(Create, model.KindService, 1), change(Create, model.KindService, 1),
	}, "1 create Service, 1 create Service, 1 update Topology, 2 create Instances, 1 update Instances, 1 delete Instances, 1 delete Service")
	var many []Change
	for range 300 {
		many = append(many, change(Create, model.KindInstances, 100))
	}
	f(many, "128 create Instances, 128 create Instances, 44 create Instances")
	var large []Change
	for range 20 {
		large = append(large, change(Create, model.KindInstances, 60<<10))
	}
	f(large, "8 create Instances, 8 create Instances, 4 create Instances")
	f([]Change{change(Create, model.KindInstances, 1<<20)}, "1 create Instances")
}

func TestGetAndDelete(t *testing.T) {
	cfg := commonConfig(t)
	c, w := openClient(t, cfg), newWriter(t, common, cfg.Prefix)
	apply(t, c, documents(t, serviceJSON("shop"), serviceJSON("bag"), instancesJSON("shop", "10.0.0.1:80", "10.0.0.2:80"),
		instancesJSON("shop-2", "10.0.0.1:80"), `{"kind":"Topology"}`))
	revision := w.put("services/ODD name", `{`)

	get := func(kind model.Kind, name string, want ...string) []Entry {
		t.Helper()
		entries, err := c.Get(testContext(t), kind, name)
		var got []string
		for _, entry := range entries {
			got = append(got, strings.TrimRight(entry.Name+" "+entry.Address, " "))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("get %s %q: %q, error %v, want %q", kind, name, got, err, want)
		}
		return entries
	}
	get(model.KindService, "shop", "shop")
	get(model.KindService, "sho")
	get(model.KindInstances, "shop", "shop 10.0.0.1:80", "shop 10.0.0.2:80")
	get(model.KindInstances, "", "shop-2 10.0.0.1:80", "shop 10.0.0.1:80", "shop 10.0.0.2:80") // the order of the keys
	get(model.KindTopology, "", "")
	entries := get(model.KindService, "", "ODD name", "bag", "shop")
	if len(entries) == 3 && (string(entries[0].Value) != "{" || entries[0].Revision != revision || entries[0].Kind != model.KindService) {
		t.Errorf("entry %+v", entries[0])
	}

	remove := func(kind model.Kind, name string, want int) {
		t.Helper()
		if got, err := c.Delete(testContext(t), kind, name); err != nil || got != want {
			t.Errorf("delete %s %q: %d, error %v, want %d", kind, name, got, err, want)
		}
	}
	remove(model.KindService, "ODD name", 1)
	remove(model.KindService, "shop", 1)
	remove(model.KindService, "shop", 0)
	remove(model.KindInstances, "shop", 2)
	remove(model.KindTopology, "", 1)
	get(model.KindService, "", "bag")
	get(model.KindInstances, "", "shop-2 10.0.0.1:80")
	get(model.KindTopology, "")

	refused := func(kind model.Kind, name, want string) {
		t.Helper()
		_, err := c.Delete(testContext(t), kind, name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("delete %s %q: error %v, want one with %q", kind, name, err, want)
		}
	}
	refused(model.KindService, "", "needs the name of a service")
	refused(model.KindInstances, "", "needs the name of a service")
	refused(model.KindInstances, "a/b", "has no slash")
	refused(model.KindTopology, "x", "there is one only")
	refused("Pod", "x", `kind "Pod"`)
}

func TestClientWithoutEtcd(t *testing.T) {
	f := func(name, user, password string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Endpoints: []string{"http://" + freeAddress(), "http://" + freeAddress()}, Username: user, Password: password}
			began := time.Now()
			c, err := NewClient(cfg)
			if err == nil {
				defer c.Close()
				_, err = c.Get(context.Background(), model.KindService, "shop")
			}
			if took := time.Since(began); took > callTimeout+time.Second {
				t.Errorf("it took %v", took)
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(cfg.Endpoints, "connection refused") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
	f("no user", "", "")
	f("user", "agent", "geheim")
}

func TestSameJSON(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		if got := sameJSON([]byte(a), []byte(b)); got != want {
			t.Errorf("sameJSON(%s, %s) = %v", a, b, got)
		}
	}
	f(`{"a":1,"b":[1,2]}`, "{\"b\": [1,2],\n\"a\": 1}", true)
	f(`{"a":1}`, `{"a":2}`, false)
	f(`{"a":[1,2]}`, `{"a":[2,1]}`, false)
	f(`{"a":12345678901234567890}`, `{"a":12345678901234567891}`, false)
	f(`{"a":1}`, `{"a":1}{"a":1}`, false)
	f(`{`, `{`, true)
	f(`{`, `{}`, false)
	f(`{}`, `{`, false)
}
