package statistics

import "math"

// BinomialTail is the probability of x or more in n, each with the probability p: the sum over k ≥ x of C(n,k)·pᵏ·(1−p)ⁿ⁻ᵏ.
// Fractions of x and n, which weighed outcomes have, take the gamma function for the factorial.
func BinomialTail(x, n, p float64) float64 {
	switch {
	case x <= 0 || p >= 1:
		return 1
	case x > n || p <= 0:
		return 0
	case x < n*p: // its terms would begin with a rise out of what a float64 can't tell from 0
		return 1 - BinomialTail(n-x+1, n, 1-p)
	}
	logChoose := logGamma(n+1) - logGamma(x+1) - logGamma(n-x+1)
	term := math.Exp(logChoose + x*math.Log(p) + (n-x)*math.Log1p(-p))
	sum, odds := 0.0, p/(1-p)
	for k := x; k <= n; k++ {
		sum += term
		next := term * (n - k) / (k + 1) * odds
		if next < term && next < sum*1e-12 {
			break
		}
		term = next
	}
	return min(sum, 1)
}

func logGamma(x float64) float64 {
	value, _ := math.Lgamma(x)
	return value
}
