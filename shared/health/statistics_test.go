package health

import (
	"math"
	"testing"
	"time"
)

func TestStatistics(t *testing.T) {
	near := func(got, want float64, what string) {
		t.Helper()
		if math.Abs(got-want) > 1e-3*math.Abs(want) {
			t.Errorf("%s is %v, not %v", what, got, want)
		}
	}
	near(wilsonUpper(0, 10, 1.96), 0.27754, "the upper bound of 0 of 10")
	near(wilsonUpper(5, 100, 1.96), 0.11175, "the upper bound of 5 of 100")
	near(wilsonUpper(0, 0, 1.96), 1, "the upper bound of nothing")
	x, y := moments{}, moments{}
	for _, v := range []float64{1, 2, 3, 4, 5} {
		x.add(v)
		y.add(v + 3)
	}
	near(welch(y, x), 3, "Welch's t") // the difference is 3, its standard error 1
}

func TestLogMilliseconds(t *testing.T) {
	for d := time.Duration(1); d > 0 && d < 1<<62; d += d/1000 + 1 {
		if got, want := logMilliseconds(d), math.Log(float64(d)/float64(time.Millisecond)); math.Abs(got-want) > 1e-7 {
			t.Fatalf("%v: %v, want %v", d, got, want)
		}
	}
}
