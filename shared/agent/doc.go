// Package agent is the brain that both modes share. It decides, and nothing else does:
//
//	Begin → is the callee known, may this call go on?
//	Pick  → which instance; called again, which one for the retry
//	Done  → what an attempt's outcome means for the instance
//	End   → the accounts of the whole call
//
// A face fills a Call, begins it, and for each attempt picks an instance, talks to it and says what became of it. Done
// counts once for an attempt; a second call of it, or one for an attempt that began before the instance was last banned or
// came back, changes nothing.
//
// What comes later has its place:
//
//   - routing (package route): Begin, once per call, turns caller, IDC and the request's attributes into a subset of
//     the callee's instances, made beforehand by newState like those by family; Pick chooses within it.
//   - the other balancing policies (package balance): newPolicy; what they read is kept in each instance's balance.Target
//     and in balance.Request.
//   - the line view: Begin chooses the policy that Call.Service returns, by caller.
//   - the fuse (package fuse): Begin asks it for the first attempt, mayRetry for each further one; Done feeds it.
//   - retry budget, backoff, hedging: mayRetry; a hedge is a Pick while the first attempt still runs.
//   - bans by deviation, half open, slow start: package health, fed by Done; newSubset asks it who may be chosen.
package agent
