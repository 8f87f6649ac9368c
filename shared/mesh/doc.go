// Package mesh attaches a process to a mesh: a store's follower that feeds, through a guard against mass removals, a catalog
// that an agent serves from, a board where agents of one machine tell each other their bans, and what tells etcd that the agent
// is there. It is the one place where
// these are wired together, for both faces.
//
// An attachment is shared by reference count, so that the configuration of the host program may be reloaded, and several
// of its parts may name the same mesh, while bans, windows and the watch on etcd live on.
package mesh
