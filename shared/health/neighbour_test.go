package health

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestNeighbour(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.service.Told(i.Address, ByProof, time.Now().Add(time.Minute), "connection refused")
		if ban, _ := i.Ban(); !i.Banned() || ban.Reason != ByNeighbour {
			t.Fatalf("%+v", ban)
		}
		w.service.Untold(i.Address)
		if i.State() != Up {
			t.Fatal("banned after the neighbour took it back")
		}
		w.service.Told(i.Address, ByProof, time.Now().Add(time.Minute), "")
		time.Sleep(50 * time.Second)
		w.service.Told(i.Address, ByProof, time.Now().Add(time.Minute), "")
		time.Sleep(time.Minute)
		if i.State() != Out {
			t.Fatal("the neighbour has prolonged it")
		}
		time.Sleep(silence + time.Second)
		if i.State() != Up {
			t.Fatal("banned for ever, since the neighbour is silent")
		}
		w.service.Told(addressOf(77), ByProof, time.Now().Add(time.Minute), "") // nobody
		if synctest.Wait(); len(w.told(Banned)) != 2 || w.probes.Load() != 2 {  // a probe at each end
			t.Fatalf("%d bans, %d probes", len(w.told(Banned)), w.probes.Load())
		}
	})
}

// A neighbour that has ended takes nothing back: whom he had banned is dead as before.
func TestWhomANeighbourTellsOfNoMoreIsProbed(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.dead.Store(addressOf(0), true)
		w.service.Told(addressOf(0), ByProof, time.Now().Add(time.Minute), "")
		w.service.Untold(addressOf(0))
		synctest.Wait()
		if ban, banned := w.all[0].Ban(); !banned || ban.Reason != ByProof {
			t.Errorf("%+v", ban)
		}
	})
}

func TestWhoHasLeftIsForgottenWhenTheNeighbourTakesHisBanBack(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.service.Told(addressOf(3), ByProof, time.Now().Add(time.Minute), "")
		w.list(0)
		w.service.Untold(addressOf(3))
		time.Sleep(time.Hour)
		if w.service.Remembers() {
			t.Error("remembered for ever")
		}
	})
}

// What a neighbour banned, and told webhooks of, isn't added to an own ban of long after.
func TestNeighboursBansDontMakeOwnOnesLong(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.service.Told(i.Address, ByProof, time.Now().Add(time.Hour), "")
		time.Sleep(time.Hour)
		w.service.Untold(i.Address)
		for range 24 {
			time.Sleep(time.Hour)
			w.observe(i, "....................")
		}
		w.dead.Store(i.Address, true)
		w.observe(i, "r")
		bans := w.told(Banned)
		if last := bans[len(bans)-1]; last.Reason != ByProof || last.BannedFor != 0 {
			t.Errorf("a first ban counts as one of %v", last.BannedFor)
		}
	})
}

func TestNeighboursBanOfThousandsOfYears(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.service.Told(addressOf(0), ByProof, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), "")
		if !w.all[0].Banned() {
			t.Fatal("not banned")
		}
		time.Sleep(mostTold + silence + time.Second)
		if w.all[0].Banned() {
			t.Error("banned for ever by who hasn't been heard for days")
		}
	})
}
