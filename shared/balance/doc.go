// Package balance chooses one of the instances that may be chosen. Who may be is settled before: by routes, by IDC, by
// bans. A Policy is made for one list of one callee and never changes; a new list gets a new Policy. What outlives a list
// is kept beside it: in a Target what is known of one instance, in a Memory what is known of the list as a whole.
//
// Package agent calls Pick for every attempt, and where Tracks says so, Began and Ended around it. None of these allocates
// or locks, and no memory is written by all cores at each call: what would be is striped.
package balance
