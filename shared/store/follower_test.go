package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestFirstLoadAndWatch(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putService("shop")
	w.putInstance("shop", "10.0.0.1:80")
	w.put("topology", `{"kind":"Topology","idcs":{"bj-a":{"logical":"north"}}}`)
	w.put("bans/shop/10.0.0.1:80", `{"by":"me"}`)
	newWriter(t, common, cfg.Prefix+"0").putService("neighbour")
	last := w.putInstance("shop", "[2001:db8::1]:80")

	f, sink := follow(t, cfg)
	sink.awaitReplace(1)
	sink.has("Service/shop", "Instances/shop/10.0.0.1:80", "Instances/shop/[2001:db8::1]:80", "Topology", "Ban/shop/10.0.0.1:80")
	if sink.state["Ban/shop/10.0.0.1:80"].Ban.By != "me" {
		t.Error("the ban lost its author")
	}
	if sink.state["Service/shop"].Service.Level != 3 || sink.state["Instances/shop/10.0.0.1:80"].Instance.Weight != 100 {
		t.Error("records lack the defaults")
	}
	if got := sink.state["Instances/shop/[2001:db8::1]:80"].Revision; got != last {
		t.Errorf("revision %d of the last instance, want %d", got, last)
	}

	began := time.Now()
	sink.awaitRevision(w.putInstance("shop", "10.0.0.2:80"))
	if took := time.Since(began); took > time.Second {
		t.Errorf("a change took %v, want under a second", took)
	}
	w.delete("services/shop")
	w.delete("instances/shop/10.0.0.1:80")
	w.delete("bans/shop/10.0.0.1:80")
	sink.awaitRevision(w.delete("topology"))
	sink.has("Instances/shop/10.0.0.2:80", "Instances/shop/[2001:db8::1]:80")

	status := f.Status()
	if !status.Synced || status.Source != SourceEtcd || status.LastError != "" || status.Revision < last ||
		time.Since(status.LastContact) > 10*time.Second {
		t.Errorf("status %+v", status)
	}
}

func TestPages(t *testing.T) {
	f := func(keys, size int) {
		t.Helper()
		cfg := commonConfig(t)
		cfg.Prefix += fmt.Sprintf("-%d-%d", keys, size)
		w := newWriter(t, common, cfg.Prefix)
		for i := range keys {
			w.putInstance("shop", fmt.Sprintf("10.0.%d.%d:80", i/250, i%250))
		}
		_, sink := follow(t, cfg, func(f *Follower) { f.timing.page = int64(size) })
		sink.awaitReplace(1)
		if len(sink.last) != keys {
			t.Errorf("%d keys in pages of %d: %d records", keys, size, len(sink.last))
		}
		for i := range sink.last {
			if i > 0 && recordKey(&sink.last[i-1]) >= recordKey(&sink.last[i]) {
				t.Errorf("record %d is out of order", i)
			}
		}
	}
	f(0, 7)
	f(6, 7)
	f(7, 7)
	f(8, 7)
	f(300, 7)
	f(3, 1)
}

// A page that can't be had whole is asked for in smaller ones.
func TestPagesTooLarge(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	const documents, size = 60, 1200 << 10 // together over maxMessage
	owner := strings.Repeat("x", size)
	for i := range documents {
		name := fmt.Sprintf("s%02d", i)
		w.put("services/"+name, fmt.Sprintf(`{"kind":"Service","name":%q,"owner":%q}`, name, owner))
	}
	t.Cleanup(func() {
		w.client.Delete(testContext(t), w.root, clientv3.WithPrefix()) // only to free memory
	})
	_, sink := follow(t, cfg, func(f *Follower) { f.timing.page = documents })
	sink.awaitReplace(1)
	if len(sink.last) != documents {
		t.Errorf("%d records, want %d", len(sink.last), documents)
	}
}

func TestMalformed(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putService("good")
	odd := map[string]string{ // key: its record
		"services/UPPER":              "Service/UPPER",
		"services/a/b":                "Service/a/b",
		"services/":                   "Service/",
		"services/i":                  "Service/i",
		"services/\xff\n":             "Service/\xff\n",
		"services/other":              "Service/other", // not the name in the value
		"services/empty":              "Service/empty",
		"instances/good":              "/instances/good",
		"instances/good/":             "Instances/good/",
		"instances/good/nowhere":      "Instances/good/nowhere",
		"instances/good/10.0.0.1":     "Instances/good/10.0.0.1",
		"instances/good/10.0.0.1:080": "Instances/good/10.0.0.1:080",
		"instances/good/10.0.0.1:80":  "Instances/good/10.0.0.1:80", // the value's is another
		"instances/good/::1:80":       "Instances/good/::1:80",
		"instances/A_B/10.0.0.1:80":   "Instances/A_B/10.0.0.1:80",
		"instances//10.0.0.1:80":      "Instances//10.0.0.1:80",
		"topology/x":                  "/topology/x",
		"":                            "/",
		"unheard-of":                  "/unheard-of",
	}
	for key := range odd {
		value := `{"kind":"Service","name":"good","address":"10.9.9.9:9"}`
		if key == "services/empty" {
			value = ""
		}
		w.put(key, value)
	}
	w.put("topology", `[`)

	check := func(sink *recorder) {
		t.Helper()
		sink.has("Service/good")
		for key := range odd {
			err := sink.refused[odd[key]]
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", w.root+key)) {
				t.Errorf("key %q: refused with %v, want an error that names it", key, err)
			}
		}
		if sink.refused["Topology"] == nil {
			t.Errorf("the topology wasn't refused")
		}
	}
	_, sink := follow(t, cfg)
	sink.awaitReplace(1)
	check(sink)

	// The same by way of the watch.
	for key := range odd {
		w.delete(key)
	}
	sink.awaitRevision(w.delete("topology"))
	if len(sink.refused) != 0 {
		t.Errorf("still refused after deletion: %v", sink.refused)
	}
	for key := range odd {
		w.put(key, `{"kind":"Service","name":"good"}`)
	}
	sink.awaitRevision(w.put("topology", `{"kind":"Service","name":"good"}`))
	check(sink)
}

// A bad value leaves the last good one in place, and one transaction's changes come together.
func TestLastGoodStays(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	good := w.putService("shop")
	_, sink := follow(t, cfg)
	sink.awaitReplace(1)
	sink.awaitRevision(w.put("services/shop", `{"kind":"Service","name":"shop","level":9}`))
	if sink.state["Service/shop"].Revision != good || sink.refused["Service/shop"] == nil {
		t.Errorf("record %+v, refused %v", sink.state["Service/shop"], sink.refused)
	}
	answer, err := w.client.Txn(testContext(t)).Then(
		clientv3.OpPut(w.root+"services/shop", serviceJSON("shop")),
		clientv3.OpPut(w.root+"services/bag", serviceJSON("bag")),
		clientv3.OpPut(w.root+"instances/bag/10.0.0.1:80", instanceJSON("10.0.0.1:80")),
	).Commit()
	if err != nil {
		t.Fatal(err)
	}
	sink.awaitRevision(answer.Header.Revision)
	if len(sink.last) != 3 || len(sink.refused) != 0 {
		t.Errorf("%d records came together, want 3; refused %v", len(sink.last), sink.refused)
	}
}

// In a mesh where nobody writes anything, etcd must still be heard, and its watch isn't silent.
func TestConfirm(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	var log logText
	cfg.Logger = log.logger()
	began := time.Now()
	f, sink := follow(t, cfg, func(f *Follower) { f.timing.progress, f.timing.silence = 50*time.Millisecond, 2*time.Second })
	sink.await("confirmations for longer than a silence", 20*time.Second, func() bool {
		return sink.confirms >= 3 && time.Since(began) > f.timing.silence+time.Second
	})
	if strings.Contains(log.String(), "isn't heard") {
		t.Errorf("the watch was given up:\n%s", log.String())
	}
	if sink.replaced != 1 || sink.applied != 0 {
		t.Errorf("%d lists and %d changes, want 1 and none", sink.replaced, sink.applied)
	}
	// Writes of others move the revision on without a record.
	w := newWriter(t, e, "/elsewhere")
	sink.awaitRevision(w.putService("shop"))
	if sink.applied != 0 || len(sink.state) != 0 {
		t.Errorf("a foreign key came through: %v", sink.state)
	}
	before := f.Status().LastContact
	eventually(t, "another contact", 10*time.Second, func() bool { return f.Status().LastContact.After(before) })
}

// What this version doesn't know is told once for each revision, and not a thousand times.
func TestUnknownFields(t *testing.T) {
	cfg := commonConfig(t)
	var log logText
	cfg.Logger = log.logger()
	w := newWriter(t, common, cfg.Prefix)
	w.put("services/shop", `{"kind":"Service","name":"shop","colour":"red"}`)
	w.putInstance("shop", "10.0.0.1:80")
	f, sink := follow(t, cfg)
	sink.awaitReplace(1)
	want := func(word string, lines int) {
		t.Helper()
		if got := strings.Count(log.String(), word); got != lines {
			t.Errorf("%d lines with %q, want %d:\n%s", got, word, lines, log.String())
		}
	}
	want("colour", 1)
	sink.has("Service/shop", "Instances/shop/10.0.0.1:80")
	sink.awaitRevision(w.putService("bag"))
	want("colour", 1)
	sink.awaitRevision(w.put("services/shop", `{"kind":"Service","name":"shop","colour":"red"}`))
	want("colour", 2)
	f.Close()

	warned := newWarnings(cfg.Logger)
	for range 2 { // the second time everything is known
		for i := range 1000 {
			warned.report(fmt.Sprintf("key-%d", i), 7, model.Problems{{Message: "flood"}})
		}
		warned.flush()
	}
	want("flood", maxWarnings)
	want(fmt.Sprintf("records=%d", 1000-maxWarnings), 1)
	for i := range 2 * maxWarned {
		warned.report(fmt.Sprintf("key-%d", i), 8, model.Problems{{Message: "x"}})
	}
	if len(warned.seen) > maxWarned {
		t.Errorf("%d keys are remembered, want %d at most", len(warned.seen), maxWarned)
	}
}

// One dead member among several is no reason to wait.
func TestDeadMember(t *testing.T) {
	cfg := commonConfig(t)
	cfg.Endpoints = append([]string{"http://" + freeAddress()}, cfg.Endpoints...)
	w := newWriter(t, common, cfg.Prefix)
	w.putService("shop")
	_, sink := follow(t, cfg)
	sink.await("the list", time.Second, func() bool { return sink.replaced == 1 })
	sink.has("Service/shop")
	began := time.Now()
	apply(t, openClient(t, cfg), documents(t, serviceJSON("bag")))
	if took := time.Since(began); took > time.Second {
		t.Errorf("a change took %v", took)
	}
	sink.await("the change", time.Second, func() bool { return len(sink.state) == 2 })
}

// gate is a sink whose Replace waits.
type gate struct {
	*recorder
	entered, open chan struct{}
}

func (g *gate) Replace(revision int64, records []model.Record) {
	close(g.entered)
	<-g.open
	g.recorder.Replace(revision, records)
}

// When Close returns, the sink isn't called any more.
func TestCloseWaits(t *testing.T) {
	sink := &gate{newRecorder(t), make(chan struct{}), make(chan struct{})}
	f, err := NewFollower(commonConfig(t), sink)
	if err != nil {
		t.Fatal(err)
	}
	f.Start()
	<-sink.entered
	closed := make(chan struct{})
	go func() {
		f.Close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("Close returned while the sink was being called")
	case <-time.After(50 * time.Millisecond):
	}
	close(sink.open)
	<-closed
}

func TestFollowerWithoutStart(t *testing.T) {
	f, err := NewFollower(Config{Endpoints: []string{"http://127.0.0.1:1"}}, newRecorder(t))
	if err != nil {
		t.Fatal(err)
	}
	if status := f.Status(); status.Source != SourceNone || status.Synced || !status.LastContact.IsZero() {
		t.Errorf("status %+v", status)
	}
	f.Close()
	f.Close()
	f.Start() // too late: does nothing, and leaves nothing running
	f.Close()
}

func TestNewFollowerRefuses(t *testing.T) {
	f := func(cfg Config, want string) {
		t.Helper()
		_, err := NewFollower(cfg, newRecorder(t))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", cfg, err, want)
		}
	}
	https := []string{"https://127.0.0.1:1"}
	f(Config{Prefix: "ufc"}, `prefix "ufc"`)
	f(Config{Endpoints: https, CA: "/no/such/ca.pem"}, "/no/such/ca.pem")
	f(Config{Endpoints: https, CA: "etcd_test.go"}, `"etcd_test.go" holds no PEM certificate`)
	f(Config{Endpoints: https, Cert: "/no/such/cert.pem", Key: "/no/such/key.pem"}, "/no/such/cert.pem")
	if _, err := NewFollower(Config{Snapshot: "x"}, struct{ Sink }{newRecorder(t)}); err == nil {
		t.Error("a snapshot without a Source was accepted")
	}
}
