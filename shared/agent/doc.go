// Package agent is the brain that both modes share. It decides, and nothing else does:
//
//	Begin → is the callee known, may this call go on?
//	Pick  → which instance; called again, which one for the retry
//	Done  → what an attempt's outcome means for the instance
//	End   → the accounts of the whole call
//
// A face fills a Call, begins it, and for each attempt picks an instance, talks to it and says what became of it. Done
// counts once for an attempt; a second call of it changes nothing, and one for an attempt that began before the instance
// was last banned or came back says nothing about its health.
//
// How a call finds its instance:
//
//   - Documents, topology and bans make a plan of a callee (plan.go), when the first call needs it. It never changes; the
//     next ban or document makes another one.
//   - Begin goes by the plan once per call: the line view by the caller's name, then a route and one of its splits (package
//     route).
//   - Pick goes within the split by the IDC table of the caller, and the policy (package balance) chooses. What is left over
//     spills, first to the table's other IDCs, then to the route's other splits; and all that again in panic, among the
//     banned.
//   - Pick called again is a retry, as far as attempts and the budget allow (budget.go). Hedge is a second attempt beside a
//     late first one (hedging.go), late by the live latency (latencies.go).
//   - Done feeds package health, what the policy goes by, the penalties for bad codes, and the live latency. Package health
//     tells its bans and returns back (service.go), which makes the next plan.
//
// What isn't there yet has its place:
//
//   - the fuse (package fuse): Begin asks it for the first attempt, payRetry and Hedge for each further one, by Call.Level
//     and Call.Class; Done feeds it.
//   - the avalanche's sets: Call.Timeouts and Call.Retries choose between them.
package agent
