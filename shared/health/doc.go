// Package health judges instances by the outcomes of the attempts on them, and decides which are banned and when they come
// back. It knows neither callers nor where the configuration comes from: the agent hands it outcomes and policies, and is
// told each decision. An instance is judged by the outcomes of all of its callers together.
//
// Each core writes outcomes into a journal of its own. They are judged in batches; failures and trials at once (journal.go).
// The rules:
//
//   - by requests: a sequential test against the failures of the others, or M of N (sequential.go, peers.go)
//   - by proof: a refused connection whose probe fails too (ban.go)
//   - by deviation of status codes and of latency, each against the other instances' (deviation.go, latency.go). What is
//     compared is counted by caller, route and split (stratum.go) and by instance and second (cell.go)
//   - how long, and how many at once (ban.go); the way back (trial.go)
//   - the agent's own checks, for callees whose callers never report (check.go)
//   - what another agent of the same machine has banned (neighbour.go)
//
// Each decision carries what led to it (decision.go, explain.go). The slow start after a return, and what bad codes and
// latency cost, are shares of an instance's weight: package balance keeps them.
package health
