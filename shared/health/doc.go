// Package health judges instances by the outcomes of the attempts on them, and decides who is banned and when he comes
// back. It knows neither callers nor configuration sources: the agent hands it outcomes and policies, and is told each
// decision. All callers' outcomes of one callee meet in one Instance.
//
// Outcomes are written into journals, core by core, and judged in batches, at once if they fail (journal.go). The rules:
//
//   - by requests: a sequential test against the failures of the others, or M of N (sequential.go, peers.go)
//   - by proof: a refused connection whose probe fails too (ban.go)
//   - by deviation of status codes and of latency, each against the other instances' (stratum.go, deviation.go, latency.go)
//   - how long, and how many at once (ban.go); the way back (trial.go)
//   - the agent's own checks, for callees whose callers never report (check.go)
//   - what another agent of the same machine has banned (neighbour.go)
//
// Each decision carries what led to it (decision.go, explain.go). The slow start after a return, and what bad codes and
// latency cost, are shares of an instance's weight: package balance keeps them.
package health
