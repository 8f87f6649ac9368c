// Package balance chooses one of the instances that may be chosen. Who may be is settled before: by routes, by IDC, by
// bans. A Policy is made for one list of one callee and keeps what it needs to choose well between calls.
//
// RoundRobin is in force. Weighted round robin, weighted random, least request, peak EWMA and consistent hash are further
// Policies: what they read of an instance (weight, requests in flight, latency) goes into Target, what they read of a
// request into Request.
package balance
