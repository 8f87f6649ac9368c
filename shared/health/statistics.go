package health

import (
	"math"
	"time"
)

// logMilliseconds returns ln(ms) of a duration over 0, within 10⁻⁷. It takes a third of math.Log's time: with
// d = m·2ᵉ and c the middle of the 128th part of [1, 2) that m is in, ln d = e·ln 2 + ln c + ln(1+r), r = m/c − 1, and of
// the last one two terms of its series suffice.
func logMilliseconds(d time.Duration) float64 {
	word := math.Float64bits(float64(d))
	part := &logParts[word>>(mantissaBits-logBits)&(1<<logBits-1)]
	m := math.Float64frombits(word&(1<<mantissaBits-1) | exponentOne<<mantissaBits)
	r := m*part.inverse - 1
	return float64(int(word>>mantissaBits)-exponentOne)*math.Ln2 + part.ln + r - r*r/2
}

// A float64's bits, and how many of them choose the part.
const (
	mantissaBits = 52
	exponentOne  = 1023 // of 1
	logBits      = 7
)

// logPart is what logMilliseconds knows of a part of [1, 2).
type logPart struct {
	inverse float64 // 1/c
	ln      float64 // ln c − ln(1 ms)
}

var logParts = func() (parts [1 << logBits]logPart) {
	for n := range parts {
		c := 1 + (float64(n)+0.5)/(1<<logBits)
		parts[n] = logPart{1 / c, math.Log(c) - math.Log(float64(time.Millisecond))}
	}
	return parts
}()

// wilsonUpper is the upper end of Wilson's score interval for a share of which x in n were seen (Wilson 1927):
//
//	(p + z²/2n + z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n), p = x/n
//
// It is 1 if nothing was seen.
func wilsonUpper(x, n, z float64) float64 {
	if n <= 0 {
		return 1
	}
	p, z2 := x/n, z*z
	return min(1, (p+z2/(2*n)+z*math.Sqrt(p*(1-p)/n+z2/(4*n*n)))/(1+z2/n))
}

// odds of a share, with half an event added on both sides, so that 0 of n has some (Haldane 1956, Anscombe 1956).
func odds(x, n float64) float64 { return (x + 0.5) / (n - x + 0.5) }

// moments are the number, sum and sum of squares of a quantity.
type moments struct{ n, sum, squares float64 }

func (m *moments) add(x float64) { m.n, m.sum, m.squares = m.n+1, m.sum+x, m.squares+x*x }
func (m *moments) join(other moments) {
	m.n, m.sum, m.squares = m.n+other.n, m.sum+other.sum, m.squares+other.squares
}
func (m moments) mean() float64 { return m.sum / m.n }

// variance is that of the sample, and at least that of rounding: a latency that is always the same to the bit would make
// any difference significant.
func (m moments) variance() float64 {
	return max((m.squares-m.sum*m.sum/m.n)/(m.n-1), 1e-4)
}

// welch is Welch's t of the difference of two means (Welch 1947): (x̄ − ȳ) / √(s²x/nx + s²y/ny).
func welch(x, y moments) float64 {
	return (x.mean() - y.mean()) / math.Sqrt(x.variance()/x.n+y.variance()/y.n)
}
