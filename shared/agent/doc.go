// Package agent is the brain that both modes share. It decides, and nothing else does:
//
//	Begin → is the callee known, may this call go on?
//	Pick  → which instance; called again, which one for the retry
//	Done  → what an attempt's outcome means for the instance
//	End   → the accounts of the whole call
//
// A face (the HTTP handler of a mode) fills a Call, begins it, and for each attempt picks an instance, talks to it and says what
// became of it. Done counts once for an attempt; a second call of it changes nothing. The outcome of an attempt that began
// before the instance was last banned or came back says nothing about its health.
//
// How a call finds its instance:
//
//   - A callee's documents, the topology and the bans are compiled into a plan (plan.go), when the first call needs it. A plan
//     never changes; after the next ban or document another one is made.
//   - Begin looks its callee up in what the agent follows. One that isn't followed yet is waited for (find.go).
//   - It looks up in the plan, once per call, the view that holds for the caller, then a route and one of its splits
//     (package route).
//   - Pick chooses a group of instances within the split by the IDC table of the caller, and an instance of the group by the
//     policy (package balance). A call that finds none goes on to the table's other IDCs, then to the route's other splits;
//     then to all of these again, to groups that are in panic, where banned instances may be chosen too.
//   - Pick called again is a retry, as far as attempts and the budget allow (budget.go). Hedge is a second attempt beside a
//     late first one (hedging.go), late by the live latency (latencies.go).
//   - Done feeds package health, what the policy goes by, the penalties for bad codes, and the live latency. Package health
//     tells its bans and returns back (service.go), which makes the next plan.
//   - In an avalanche the fuse (fusing.go, package fuse) admits or refuses calls and retries by their weight, no hedges are
//     made, and Call.Timeouts and Call.Retries are the avalanche's. Package health hands the fuse the outcomes.
package agent
