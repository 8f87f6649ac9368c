// Package fuse keeps a collapsing callee alive: it refuses what the callee can't take, the least important first, until it
// heals.
//
// It is congestion control that models what the callee delivers, as BBR does for networks (Cardwell et al. 2016, BBR:
// congestion-based congestion control), rather than a fraction that is admitted. Who is refused is told by an admission level over a
// histogram of priorities, as DAGOR does it (Zhou et al. 2018, Overload control for scaling WeChat microservices). There is one Fuse
// for each callee and agent, and no two talk to each other.
//
// In normal times a Fuse only looks. When too many attempts fail, or too many are under way, it enters an avalanche: then a rate, and
// how many may be in flight, limit what is admitted, and both follow what is delivered, down and up again. It leaves by itself.
//
//  1. Measure. Tick is called each 0.25 s ± 10 %. A judgement takes 10 outcomes and 0.5 s, or 3 outcomes and 5 s. The rate of delivery is
//     that of all attempts that are over, times the share of good ones among those that are heard of.
//  2. Bad is a failure; an attempt older than T, at that moment, in normal times; and one that its client gives up unanswered after
//     three times the usual 95th percentile (p95). An answer counts when it begins. Not under way are requests that are still
//     being sent, and those of callers that may wait longer than others.
//  3. Success is the share of good outcomes without the worst 30 % of the instances (at least one of two): point faults are for bans.
//  4. T = min(normal timeout, max(avalanche timeout, 3 · p95)); the normal timeout until p95 is known. Where nothing was good for 30 s
//     at the floor, or too many are late while the good ones are as quick as ever, T doubles, and with it what an attempt may take. What
//     is usual is learned anew then, and where for 30 s answers took longer than usual with a quarter of the rate.
//  5. Enter when success < success_below with at least 5 bad ones and a binomial tail under 10⁻⁶ against the callee's own share of
//     failures (held within 1–20 %), where few outcomes add up over 30 s; or when more are in flight than max(16, 0.5 · normal timeout ·
//     the highest rate of the last minute), less than a quarter of them was answered since the last tick, and, of 16 to 32, a quarter
//     is older than p95.
//  6. The rate begins with the highest of the last 15 s. Tokens come at 1.25 times of it: the headroom that shows when the callee can
//     do more.
//  7. In flight may be rate · median + fair · (max(T/4, min(p95, 0.6 · normal timeout)) − median), at least 1 to 3, twice that where
//     nothing waits. What has timed out counts on, as the callee may still have it to do, until as much is delivered.
//  8. Shrink, at most once per T and by attempts begun since: 0.4 halvings for each bad outcome since the last good one, one halving at
//     most, or two where none was good; no lower than what is delivered needs. Where a standing queue is there all the time, the rate
//     is what is delivered.
//  9. Hold where answers come in time, but after T/2: a quarter of a halving at most.
//  10. Grow by a tenth of a doubling for each good outcome (more from 20 a second on), up to 0.9 of what it was at the beginning, then
//     half-way to the highest rate of 10 s, while at least 5 % are refused. From the floor on 1.6 doublings a judgement, up to a half of
//     what was before (slow start).
//  11. The floor passes in any case: fuse.floor of the arrivals, at most a twentieth of what was delivered at the beginning; but one
//     request in 5 s, if that is no more than a tenth of them.
//  12. Who is refused. Those lighter than the cut; those heavier pass; those at it as far as tokens and room go. The cut rises at once
//     where the heavier ones are too many, and comes down to the next weight that arrives when nobody at it was refused for a second.
//  13. Leave after 5 s in which arrivals are under 0.95 · 1.25 · rate, or nobody was refused, and success is enough; or in silence; or
//     when none of those admitted was heard of for 30 s.
//
// Files: fuse.go is the ways in and out, normal.go and avalanche.go are the two states, patience.go is T, flight.go what is under
// way, measure.go what outcomes say, rate.go the rates and latencies of the past, arrivals.go and cut.go who comes and who is refused,
// weight.go the importance of a request, decision.go what is told of it all.
//
// All moments are times since one fixed moment, by a clock that never goes back.
package fuse
