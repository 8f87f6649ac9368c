package statistics

import (
	"math"
	"math/big"
	"testing"
)

// The sum over k ≥ x of C(n,k)·pᵏ·(1−p)ⁿ⁻ᵏ.
func TestBinomialTail(t *testing.T) {
	for _, p := range []float64{0.01, 0.05, 0.1, 0.2} {
		for _, n := range []int64{5, 10, 11, 50, 200} {
			exact, q := new(big.Float).SetPrec(300), new(big.Float).SetPrec(300).Sub(big.NewFloat(1), big.NewFloat(p))
			for x := n; float64(x) > float64(n)*p; x-- {
				term := new(big.Float).SetPrec(300).SetInt(new(big.Int).Binomial(n, x))
				for k := range n {
					if factor := q; k < x {
						term.Mul(term, big.NewFloat(p))
					} else {
						term.Mul(term, factor)
					}
				}
				want, _ := exact.Add(exact, term).Float64()
				if got := BinomialTail(float64(x), float64(n), p); math.Abs(got-want) > 1e-9*want {
					t.Fatalf("%d or more of %d at %v: %v, not %v", x, n, p, got, want)
				}
			}
		}
	}
	near := func(got, want float64, what string) {
		t.Helper()
		if math.Abs(got-want) > 1e-3*want {
			t.Errorf("%s is %v, not %v", what, got, want)
		}
	}
	near(BinomialTail(0, 0, 0.1), 1, "0 or more of none")
	near(BinomialTail(0, 10, 0.3), 1, "0 or more")
	near(BinomialTail(2, 10, 0.4), 0.95364, "2 or more of 10")
	near(BinomialTail(20_000, 100_000, 0.277), 1, "20,000 or more of 100,000, of which 27,700 are to be expected")
	near(BinomialTail(11, 10, 0.5), 0, "11 of 10")
}

// The tail falls in the number of bad ones and rises in p, also for the fractions that late attempts count as.
func TestBinomialTailIsMonotone(t *testing.T) {
	for n := 10.0; n < 300; n += 7.3 {
		before := 1.0
		for x := 0.0; x <= math.Floor(n); x++ {
			tail := BinomialTail(x, n, 0.1)
			if tail > before || tail < 0 || math.IsNaN(tail) || tail > BinomialTail(x, n, 0.2)*(1+1e-9) {
				t.Fatalf("%v of %v: %v after %v", x, n, tail, before)
			}
			before = tail
		}
	}
}
