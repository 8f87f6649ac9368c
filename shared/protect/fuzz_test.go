package protect

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

var errBad = errors.New("bad")

// sequence plays what a text says: two bytes are a step, what to do and with which keys. Whatever it is, what etcd has is
// always in force as etcd has it; no service loses more than the share within a minute; and after a confirmation all is as if
// there were no guard.
func sequence(t *testing.T, steps []byte) {
	r := newRig(t, 0.5)
	r.put(append(append(some("a", 1, 8), some("b", 1, 3)...), "a", "b", "a!1", "c/1", "~")...)
	r.list()
	for len(steps) >= 2 {
		what, which := steps[0], int(steps[1])
		steps = steps[2:]
		service := string(rune('a' + which%4))
		from := 1 + which/4%8
		names := some(service, from, from+int(what>>4))
		if which >= 128 {
			names = append(names, service, fmt.Sprintf("%s!%d", service, from))
		}
		if which%64 == 63 {
			names = append(names, "~")
		}
		r.step(what&15, names)
		r.covers()
	}
	r.tell(r.confirm(""))
	r.same()
}

func (r *rig) step(what byte, names []string) {
	switch what {
	case 0, 1, 2:
		r.tell(r.put(names...)...)
	case 3, 4, 5, 6:
		r.tell(r.gone(names...)...)
	case 7: // both at once
		records := r.gone(names...)
		r.tell(append(records, r.put(names[:1]...)...)...)
	case 8:
		r.list()
	case 9:
		r.gone(names...)
		r.list()
	case 10:
		time.Sleep(time.Duration(len(names)) * 5 * time.Second)
		r.quiet()
	case 11:
		r.quiet()
	case 12: // a value that can't be read, of a key that is there
		if bad, there := r.etcd[names[0]]; there {
			r.revision++
			r.tell(model.Record{Kind: bad.Kind, Name: bad.Name, Address: bad.Address, Revision: r.revision, Err: errBad})
		}
	case 13:
		r.tell(r.confirm(string(names[0][0])))
	case 14:
		for name := range r.etcd {
			r.gone(name)
		}
		r.list()
	case 15:
		r.guard.SetShare(float64(len(names)) / 18)
	}
}

// covers checks that what etcd has is in force, and that nothing else is but what is held.
func (r *rig) covers() {
	r.t.Helper()
	got, want := contents(r.views), contents(r.plain)
	for k, record := range want {
		if !reflect.DeepEqual(got[k], record) {
			r.t.Errorf("%v in force is %+v, want %+v", k, got[k], record)
		}
	}
	for k := range got {
		if _, there := want[k]; !there {
			if _, held := r.guard.held[k]; !held {
				r.t.Errorf("%v is in force without a reason", k)
			}
		}
	}
	for k := range r.guard.held {
		if _, there := got[k]; !there {
			r.t.Errorf("%v is held, and not in force", k)
		}
	}
	r.counts()
}

// counts checks the guard's own.
func (r *rig) counts() {
	r.t.Helper()
	services, mesh, documents := map[string]int{}, 0, 0
	for k := range r.guard.held {
		switch k.kind {
		case model.KindInstances:
			services[k.name]++
			mesh++
		case model.KindService:
			documents++
		}
	}
	for name, s := range r.guard.services {
		if s.held != services[name] {
			r.t.Errorf("%d of %s are held, counted as %d", services[name], name, s.held)
		}
		delete(services, name)
	}
	if len(services) > 0 || mesh != r.guard.mesh.held || documents != r.guard.documents.held {
		r.t.Errorf("held are %v, %d and %d, counted as %+v", services, mesh, documents, r.guard.Status())
	}
}

func FuzzGuard(f *testing.F) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		steps := make([]byte, 2*random.IntN(60))
		for n := range steps {
			steps[n] = byte(random.IntN(256))
		}
		f.Add(steps)
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		synctest.Test(t, func(t *testing.T) { sequence(t, steps[:min(len(steps), 200)]) })
	})
}

// Within a minute no service loses more than the share and nothing is lost of an instance or two, but by a confirmation.
func TestFloor(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			r := newRig(t, 0.5)
			count := 2 + random.IntN(40)
			r.put(append(some("shop", 1, count), some("rest", 1, 50)...)...)
			r.list()
			for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Duration(random.IntN(9)) * time.Second) {
				from := 1 + random.IntN(count)
				r.tell(r.gone(some("shop", from, min(count, from+random.IntN(8)))...)...)
				if random.IntN(4) == 0 {
					r.list()
				}
				if got := len(r.views.Service("shop").Instances); 2*got < count {
					t.Fatalf("seed %d: %d of %d are left", seed, got, count)
				}
			}
		})
	}
}
