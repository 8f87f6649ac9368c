// Package route turns a request, its caller and the caller's IDC into decisions: which of the callee's routes the request
// takes (Table.Match) and which split of it (Route.Split), which IDC table holds for its caller (IDCs.Rows), and what a
// hashing policy hashes (Key.Hash). It chooses no instance and knows no health: package agent asks it, and keeps the
// subsets of instances that the decisions name.
//
// A policy is compiled once, when it changes. What is compiled never changes, so that any number of goroutines read it
// without a lock, and no decision allocates.
//
// A request with a balance key keeps its side of a percent, and its split, for as long as the policy leaves it there: one
// user sees either the new version or the old one, whichever agent he comes by, and a percent that is raised only adds
// users. Requests without a key are dealt at random, one by one.
package route
