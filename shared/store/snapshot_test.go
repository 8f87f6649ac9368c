package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// sample writes a snapshot of the records: key, value, key, value.
func sample(prefix string, records ...string) []byte { return sampleAt(812, prefix, records...) }

func sampleAt(revision int64, prefix string, records ...string) []byte {
	var out bytes.Buffer
	w := newSnapshotWriter(&out, snapshotHeader{Prefix: prefix, Revision: revision, Written: time.Unix(1767366245, 0).UTC()})
	for i := 0; i < len(records); i += 2 {
		w.record(records[i], int64(i+1), []byte(records[i+1]))
	}
	if err := w.close(); err != nil {
		panic(err)
	}
	if w.size != int64(out.Len()) {
		panic(fmt.Sprintf("size %d, wrote %d", w.size, out.Len()))
	}
	return out.Bytes()
}

// readSample reads a snapshot into the form that sample takes.
func readSample(data []byte, prefix string) (records []string, header snapshotHeader, err error) {
	header, err = readSnapshot(bytes.NewReader(data), prefix, func(key []byte, revision int64, value []byte) {
		records = append(records, string(key), string(value))
		if revision != int64(len(records)-1) {
			panic(fmt.Sprintf("record %q has revision %d", key, revision))
		}
	})
	return records, header, err
}

var someRecords = []string{
	"services/shop", `{"kind":"Service","name":"shop","owner":"a b"}`,
	"instances/shop/10.0.0.1:80", `{"address":"10.0.0.1:80"}`,
	"topology", `{}`,
}

func TestSnapshotFormat(t *testing.T) {
	f := func(records []string) {
		t.Helper()
		got, header, err := readSample(sample("/ufc/v1", records...), "/ufc/v1")
		if err != nil || !slices.Equal(got, records) || header.Revision != 812 || header.Written.Unix() != 1767366245 {
			t.Errorf("wrote %q, read %q, header %+v, error %v", records, got, header, err)
		}
	}
	f(nil)
	f(someRecords)
	f([]string{"bans/shop/10.0.0.1:80", `{"by":"me"}`})
	f([]string{"services/long", `"` + strings.Repeat("x", 3<<20) + `"`})

	got, _, err := readSample(sample("/ufc/v1", "topology", "{\r\n  \"idcs\": {}\n}\n"), "/ufc/v1")
	if err != nil || !slices.Equal(got, []string{"topology", `{"idcs":{}}`}) {
		t.Errorf("a value of several lines became %q, error %v", got, err)
	}
}

func TestSnapshotRefused(t *testing.T) {
	f := func(data []byte, want string) {
		t.Helper()
		if _, _, err := readSample(data, "/ufc/v1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100q: error %v, want one with %q", data, err, want)
		}
	}
	good := string(sample("/ufc/v1", someRecords...))
	f(nil, "is cut off")
	f([]byte("GIF89a\n"), "is not a snapshot")
	f([]byte(strings.Replace(good, "ufc-snapshot 1", "ufc-snapshot 2", 1)), `is of version "2", this program reads version 1`)
	f(sample("/ufc/test", someRecords...), `is of the mesh "/ufc/test", not of "/ufc/v1"`)
	f([]byte(strings.Replace(good, "shop", "shoq", 1)), "is damaged: its checksum is wrong")
	f([]byte(strings.Replace(good, "812", "813", 1)), "is damaged: its checksum is wrong")
	f([]byte(good+"x"), "is damaged: something follows its end")
	f([]byte("ufc-snapshot 1 {\n"), "is damaged: header")
	f([]byte(strings.Replace(good, "topology 5 {}", "topology", 1)), "is damaged: line 4 is not a record")
	f([]byte(strings.Replace(good, "topology 5 {}", "topology x {}", 1)), "is damaged: line 4 is not a record")
	f(append([]byte(nil), make([]byte, maxLine+1)...), "token too long")
}

// Whatever one bit or the loss of an end does to a file, it is noticed.
func TestSnapshotAccidents(t *testing.T) {
	good := sample("/ufc/v1", someRecords...)
	for length := range len(good) - 1 { // without the last line break nothing is lost
		if _, _, err := readSample(good[:length], "/ufc/v1"); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", length, len(good))
		}
	}
	for at := range good[:len(good)-1] {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << bit
			_, err := readSnapshot(bytes.NewReader(bad), "/ufc/v1", func([]byte, int64, []byte) {})
			if err == nil {
				t.Errorf("bit %d of byte %d flipped: no error", bit, at)
			}
		}
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add(sample("/ufc/v1", someRecords...))
	f.Add(sample("/ufc/v1"))
	f.Add(sample("/ufc/v1", "bans/shop/10.0.0.1:80", `{"by":"me"}`, "bans/shop/x", `{}`))
	f.Add([]byte("ufc-snapshot 1 {\"prefix\":\"/ufc/v1\"}\nend 0 "))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		var w *snapshotWriter
		decoder := newDecoder(newKeyspace("/ufc/v1"), newWarnings(quiet))
		w = newSnapshotWriter(&out, snapshotHeader{Prefix: "/ufc/v1"})
		records := 0
		_, err := readSnapshot(bytes.NewReader(data), "/ufc/v1", func(key []byte, revision int64, value []byte) {
			records++
			decoder.put(append([]byte(decoder.parser.root), key...), value, revision)
			w.record(string(key), revision, value)
		})
		if err != nil {
			return
		}
		// What could be read can be written, and read again.
		if err := w.close(); err != nil {
			return // a value that isn't JSON
		}
		again := 0
		if _, err := readSnapshot(&out, "/ufc/v1", func([]byte, int64, []byte) { again++ }); err != nil || again != records {
			t.Errorf("read %d records, wrote them, read %d, error %v", records, again, err)
		}
	})
}

// newTestSnapshotter returns a snapshotter with a file in a new folder, and a source with one instance.
func newTestSnapshotter(t *testing.T) *snapshotter {
	t.Helper()
	source := newRecorder(t)
	decoder := newDecoder(newKeyspace(DefaultPrefix), newWarnings(quiet))
	record := decoder.put([]byte(DefaultPrefix+"/config/instances/shop/10.0.0.1:80"), []byte(instanceJSON("10.0.0.1:80")), 3)
	source.Replace(3, []model.Record{record})
	return newSnapshotter(&Config{
		Snapshot: filepath.Join(t.TempDir(), "new", "folder", "x.snapshot"), Prefix: DefaultPrefix, Logger: quiet,
	}, source)
}

// revisionIn returns the revision that the file stands at; 0: there is none.
func revisionIn(t *testing.T, path string) int64 {
	t.Helper()
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	} else if err != nil {
		t.Fatal(err)
	}
	header, err := readSnapshot(bytes.NewReader(data), DefaultPrefix, func([]byte, int64, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	return header.Revision
}

func TestSnapshotRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestSnapshotter(t)
		s.start()
		f := func(wait time.Duration, want int64) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if got := revisionIn(t, s.path); got != want {
				t.Errorf("the file stands at revision %d, want %d", got, want)
			}
		}
		f(time.Hour, 0) // nothing to write
		s.changed(1)
		f(0, 1) // the first one at once
		s.changed(2)
		s.changed(3)
		f(snapshotEvery-time.Millisecond, 1)
		s.changed(4)
		f(time.Millisecond, 4)
		f(time.Hour, 4)
		s.changed(5)
		f(0, 5)
		s.changed(6)
		s.stop()
		f(0, 6)
	})
}

func TestSnapshotFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestSnapshotter(t)
		inTheWay := filepath.Dir(filepath.Dir(s.path))
		if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.start()
		s.changed(1)
		synctest.Wait()
		if err := os.Remove(inTheWay); err != nil {
			t.Fatal(err)
		}
		time.Sleep(snapshotRetry)
		synctest.Wait()
		if got := revisionIn(t, s.path); got != 1 {
			t.Errorf("the file stands at revision %d, want 1", got)
		}
		s.stop()
	})
}

func TestSnapshotFile(t *testing.T) {
	s := newTestSnapshotter(t)
	s.source.Resume(&model.Holds{Services: map[string]int{"shop": 7}})
	s.replaced(7, map[string]document{"services/shop": {revision: 2, value: []byte(serviceJSON("shop"))}})
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		t.Fatal(err)
	}
	// What a crash may leave, and what a careless hand may: neither stays.
	if err := os.WriteFile(s.path+".tmp", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, error %v, want 0600", info.Mode(), err)
	}
	files, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil || len(files) != 1 {
		t.Errorf("files %v, error %v, want the snapshot alone", files, err)
	}
	state, err := s.load(newDecoder(newKeyspace(DefaultPrefix), newWarnings(quiet)), func([]byte) bool { return true })
	if err != nil || state.revision != 7 || len(state.records) != 2 || state.held.Services["shop"] != 7 {
		t.Fatalf("loaded %+v, error %v", state, err)
	}
	service, instance := state.records[0], state.records[1]
	if service.Service == nil || service.Name != "shop" || service.Revision != 2 || instance.Instance == nil ||
		instance.Instance.IDC != "bj-a" || instance.Address != "10.0.0.1:80" || instance.Revision != 3 {
		t.Errorf("loaded %+v", state.records)
	}
}

// The last good value of a refused document goes into the snapshot; what is gone only if the sink holds it in force.
func TestSnapshotDocuments(t *testing.T) {
	s := newTestSnapshotter(t)
	service := func(name string, err error) *model.Record {
		return &model.Record{Kind: model.KindService, Name: name, Revision: 9, Err: err}
	}
	f := func(want ...string) {
		t.Helper()
		s.dropGone()
		if got := slices.Sorted(maps.Keys(s.documents)); !slices.Equal(got, want) {
			t.Errorf("documents %q, want %q", got, want)
		}
	}
	s.document(service("a", nil), []byte("1"))
	s.document(service("b", nil), []byte("1"))
	s.document(&model.Record{Kind: model.KindTopology}, []byte("1"))
	s.document(&model.Record{Kind: model.KindInstances, Name: "a", Address: "10.0.0.1:80"}, []byte("1"))
	f("services/a", "services/b", "topology")
	s.document(service("a", errors.New("bad")), []byte("2"))
	s.document(&model.Record{Kind: model.KindTopology, Deleted: true}, nil)
	f("services/a", "services/b")
	documents := map[string]document{}
	keep(documents, service("a", errors.New("bad")), []byte("3"))
	keep(documents, service("c", nil), []byte("3"))
	keep(documents, service("d", errors.New("bad")), []byte("3"))
	s.replaced(9, documents)
	f("services/a", "services/c")
	if got := string(s.documents["services/a"].value); got != "1" {
		t.Errorf("value %q of the refused document, want the last good one", got)
	}

	held := newRecorder(t)
	held.state["Service/c"] = *service("c", nil)
	held.state["Topology"] = model.Record{Kind: model.KindTopology}
	s.source = held
	s.document(&model.Record{Kind: model.KindTopology}, []byte("4"))
	s.replaced(10, map[string]document{})
	f("services/c", "topology")
	s.document(service("c", nil), []byte("5"))
	s.document(&model.Record{Kind: model.KindService, Name: "c", Deleted: true}, nil)
	f("services/c", "topology")
	clear(held.state)
	f()
}

// The URL of a webhook is a secret, and stays off the disk; all else of the document is on it.
func TestSnapshotHasNoWebhook(t *testing.T) {
	const value = `{"kind":"Service","name":"shop","new":[1.50],"ban":{"x":1,"webhook":{"url":"https://a.test/T0/path-secret"},"duration":"20s"}}`
	const want = `{"kind":"Service","name":"shop","new":[1.50],"ban":{"x":1,"duration":"20s"}}`
	s := newTestSnapshotter(t)
	record := newDecoder(newKeyspace(DefaultPrefix), newWarnings(quiet)).put([]byte(DefaultPrefix+"/config/services/shop"), []byte(value), 9)
	if record.Err != nil || record.Service.Ban.Webhook == nil {
		t.Fatal(record.Err)
	}
	f := func(how string) {
		t.Helper()
		if got := string(s.documents["services/shop"].value); got != want {
			t.Errorf("%s: %s", how, got)
		}
	}
	s.document(&record, []byte(value))
	f("changed")
	documents := map[string]document{}
	keep(documents, &record, []byte(value))
	s.replaced(9, documents)
	f("listed")
}

// What time has let go of goes from the file, too.
func TestSnapshotOfWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestSnapshotter(t)
		s.source.Resume(&model.Holds{Instances: 7})
		s.start()
		s.changed(1)
		synctest.Wait()
		s.confirmed(2)
		time.Sleep(time.Minute)
		if got := revisionIn(t, s.path); got != 1 {
			t.Errorf("the file stands at revision %d though nothing has changed", got)
		}
		s.source.Resume(nil)
		s.confirmed(3)
		time.Sleep(time.Minute)
		s.confirmed(4)
		time.Sleep(time.Minute)
		if got := revisionIn(t, s.path); got != 3 {
			t.Errorf("the file stands at revision %d, want 3", got)
		}
		s.stop()
	})
}

func TestFollowerSnapshot(t *testing.T) {
	e := startEtcd(t)
	w := newWriter(t, e, DefaultPrefix)
	w.put("services/shop", `{ "kind":"Service", "name":"shop", "level":1, "of_a_newer_version":1 }`)
	w.put("topology", `{"kind":"Topology","idcs":{"gz-a":{"logical":"south"}},"drained":["gz-a"]}`)
	w.putInstance("shop", "10.0.0.1:80")
	cfg := configOf(e, DefaultPrefix)
	cfg.Snapshot = filepath.Join(t.TempDir(), "data", "agent.snapshot")
	cfg.Username, cfg.Password = "somebody", "geheim" // etcd has no users yet: it is ignored

	first, sink := follow(t, cfg, func(f *Follower) {
		if err := f.LoadSnapshot(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no file: error %v", err)
		}
	})
	sink.awaitReplace(1)
	eventually(t, "the file", 10*time.Second, func() bool { return revisionIn(t, cfg.Snapshot) > 0 })
	w.put("instances/shop/10.0.0.1:80", `{"address":"x"}`) // refused: the last good one is kept
	last := w.putInstance("shop", "10.0.0.2:80")
	sink.awaitRevision(last)
	first.Close()
	if got := revisionIn(t, cfg.Snapshot); got != last {
		t.Errorf("closed at revision %d, the file stands at %d", last, got)
	}
	data, err := os.ReadFile(cfg.Snapshot)
	if err != nil || bytes.Contains(data, []byte("geheim")) {
		t.Errorf("the file holds the password, or error %v", err)
	}
	e.close()

	// The next one starts while etcd is away.
	after := newRecorder(t)
	second, err := NewFollower(cfg, after)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.LoadSnapshot(); err != nil {
		t.Fatal(err)
	}
	after.has("Service/shop", "Topology", "Instances/shop/10.0.0.1:80", "Instances/shop/10.0.0.2:80")
	if after.state["Service/shop"].Service.Level != 1 || after.revision != last {
		t.Errorf("service %+v at revision %d", after.state["Service/shop"].Service, after.revision)
	}
	status := second.Status()
	if status.Source != SourceSnapshot || status.Revision != last || status.Synced || !status.LastContact.IsZero() {
		t.Errorf("status %+v", status)
	}
	second.Start()
	second.Close() // nothing was heard: the file stays as it is
	if now, err := os.ReadFile(cfg.Snapshot); err != nil || !bytes.Equal(now, data) {
		t.Errorf("the file changed, or error %v", err)
	}
	if !bytes.Contains(data, []byte(`"of_a_newer_version":1`)) {
		t.Error("the service isn't in the file as it was written")
	}
}

func TestLoadSnapshotRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.snapshot")
	sink := newRecorder(t)
	f, err := NewFollower(Config{Snapshot: path, Logger: quiet}, sink)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(data []byte, want string) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := f.LoadSnapshot()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want one with %q and the file's name", err, want)
		}
		if sink.replaced != 0 || f.Status().Source != SourceNone {
			t.Error("the sink was told of it")
		}
	}
	good := sample(DefaultPrefix, someRecords...)
	refused(good[:len(good)/2], "is cut off")
	refused(bytes.Replace(good, []byte("shop"), []byte("shot"), 1), "is damaged")
	refused(sample("/other", someRecords...), "is of the mesh")
	refused(nil, "is cut off")
	refused(sample(DefaultPrefix), "is empty")

	// A record that can't be read is refused alone.
	if err := os.WriteFile(path, sample(DefaultPrefix, "services/a", "{}", "services/shop", serviceJSON("shop")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.LoadSnapshot(); err != nil {
		t.Fatal(err)
	}
	sink.has("Service/shop")
	if sink.refused["Service/a"] == nil {
		t.Error("the bad record wasn't refused")
	}
	if sink.written.Unix() != 1767366245 {
		t.Errorf("the sink was told that it was written at %v", sink.written)
	}
}
