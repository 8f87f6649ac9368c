// Package store keeps the mesh's configuration in etcd: where its keys are, how an agent follows them, how a tool changes
// them, and the snapshot file that an agent starts from when etcd is away.
//
// A Follower reads all keys at one revision, then watches from there, and tells a Sink in order of revision. It knows
// only package model; the live view that agents ask is the Sink's. It decides nothing about traffic. Package mesh starts
// one per mesh and process. A Client is what the command line uses: it plans changes, applies and deletes.
//
// A Follower may follow some services only: see Scope. A Presence tells which agents there are: PREFIX/agents/.
//
// A Board is where the agents of one machine tell each other, and operators, what they have banned: PREFIX/bans/. It shares
// a Follower's connection. It decides nothing either.
//
// Two things are left to others: refused records are counted and logged by the Sink, and removals too large to be believed
// are held back by it (package protect). A Client writes the key that confirms them.
package store
