// Package corednsufc is UFC's face towards CoreDNS: the ufc plugin, which makes CoreDNS the agent of bypass mode. A program
// asks it for an instance by name, talks to the instance itself, and reports what became of it to the callback listener.
//
// The package parses the Corefile (setup.go, parse.go, options.go), reads names (name.go), asks the agent (pick.go) and writes
// answers (answer.go). It decides nothing about instances: who is handed out is the agent's business. What outlives a
// reload, the mesh, its metrics and the callback listener, is held by reference (lifecycle.go, callback.go, metrics.go).
package corednsufc
