// Package scenarios is the proving ground of the rules that ban and fuse: a simulator in virtual time that drives the real agent
// by its public API, without sockets, with modelled callers and instances, and beside it the published rules of others
// with the same traffic.
//
// It is an event queue (queue.go) that a world (world.go) works off: callers' arrivals, and the ends of attempts, whose
// outcomes instances draw (instance.go). A guard decides whom an attempt goes to: the agent (ufc.go), or a comparator
// (envoy.go). A ledger (ledger.go) keeps what came of it. A row (rows*.go) is a scenario with what must be shown, which a
// judge (judge.go) reads off the ledgers. The report (report.go, plots.go) is docs/scenarios.
//
// A rush (rush.go) is a world of another kind, for the fuse: its instances have servers and a queue (station.go), and clients
// ask for more than they can do (demand.go). Its guards are the agent and the throttles of others (throttled.go), its ledger
// is a flow (flow.go), its rows and judges are rows_load.go and judge_load.go.
//
// The agent's timers run in the same virtual time, that of a testing/synctest bubble: the world sleeps until the next
// event's moment. All random numbers come from a seed, so that a run can be repeated: exactly with GOMAXPROCS=1.
package scenarios
