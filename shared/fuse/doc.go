// Package fuse keeps a collapsing callee alive: it refuses what the callee can't take, the least important first, until it
// heals.
//
// It is congestion control that models what the callee delivers, as BBR does for networks (Cardwell et al. 2016, BBR:
// congestion-based congestion control), rather than a fraction that is admitted. In the normal state a Fuse only looks: at the
// outcomes of attempts, and at how many are under way and since when. When too many fail, or get old, it enters an avalanche:
// now a rate (bw, answers delivered per second) and a number in flight limit what is admitted, and both follow what is
// delivered, down and up again. It leaves by itself when the traffic fits.
//
// Files: fuse.go is the state and its ways in and out, flight.go what is under way, measure.go what outcomes say, rate.go the
// rates and latencies of the past, cut.go who is refused.
package fuse
