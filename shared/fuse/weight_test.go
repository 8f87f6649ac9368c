package fuse

import "testing"

// The weight: 24·(5 − level) + 3·class + (2 first attempt, 1 hedge, 0 retry). So the level decides, then the class, then the kind.
func TestWeightOrders(t *testing.T) {
	before := -1
	for level := 5; level >= 1; level-- {
		for class := range 8 {
			for _, kind := range []Kind{Retry, Hedge, First} {
				weight := Weight(level, class, kind)
				if weight != before+1 {
					t.Errorf("level %d, class %d, kind %d weighs %d, after %d", level, class, kind, weight, before)
				}
				before = weight
			}
		}
	}
	if before != MaxWeight {
		t.Errorf("the most important weighs %d, not MaxWeight %d", before, MaxWeight)
	}
}

func TestWeightOfWhatDoesntExist(t *testing.T) {
	f := func(level, class int, kind Kind, want int) {
		t.Helper()
		if got := Weight(level, class, kind); got != want {
			t.Errorf("level %d, class %d, kind %d weighs %d, not %d", level, class, kind, got, want)
		}
	}
	f(0, 7, First, MaxWeight)
	f(-3, 9, First+1, MaxWeight)
	f(6, -1, Retry, 0)
}
