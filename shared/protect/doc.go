// Package protect holds removals back that are too large to be meant: an etcd that came back empty, a folder that somebody
// deleted. A Guard stands between the store and the catalog; what it holds stays in force, until a person confirms the
// removal or the records are back.
//
// # What is held
//
// The rule is about what is left, not about what goes. A set may lose the share within a minute, and no more: what etcd has
// after a change is compared with what was in force a minute before. So it doesn't matter whether a removal comes at
// once or split: by transactions of 128, or by leases that run out one after another. What went before the share was reached
// stays gone; the change that goes over it is held whole, and so is what follows. New instances count like old ones: a
// deployment that brings new addresses and takes the old ones away later loses nothing. What has been in force for less than
// the minute isn't missed.
//
// Sets are the instances of each service, the instances of the mesh, and the Service documents of the mesh.
//
//   - A service is held when it would lose more than the share of its instances, and two at least. One instance is what
//     dies with a machine, and what people take away by hand: the only instance of a service, or one of two or three, may go.
//   - If the mesh would lose more than the share of all instances, and two at least, the same goes for services of which one
//     instance goes: in a mesh of small services that is what an emptied etcd looks like.
//   - If it would lose more than the share of all Service documents, and two at least, the documents are held, and services
//     as if the mesh's instances were too few.
//   - With a service's instances, its document is held, and bans by hand that go in the same change. While the mesh's instances
//     or its documents are too few, the topology is held.
//
// Everything else goes through at once, also while something is held: additions, changes, bans by hand, removals in other
// services, and of instances that came after the hold had begun. A list of all there is (Replace) obeys the same rules. The
// first one there ever is doesn't, as there is nothing in force: an agent that starts with a snapshot holds what an
// empty etcd doesn't have, while one without a snapshot has nothing to hold.
//
// # When it is let go
//
// A record that comes back is simply in force. The rest of its set is let go when etcd has as many as before, or, since
// those who register themselves come back one by one, when the loss hasn't been over the share for a minute. And a person may
// confirm: the key config/confirm, or config/confirm/<service> for one service, says up to which revision of etcd removals are
// meant. What went later is judged anew, against what is left.
//
// Services that are followed from now on were there before: they make up for nothing that is gone, and are protected at once.
//
// A confirmation whose revision isn't before its own key's was copied from another etcd, and is ignored. After an etcd was
// restored, what is held counts as removed at the revision that it was missed at, so that an old confirmation doesn't
// meet it. An agent that was away when something was removed and confirmed can't tell which of both was first: it takes the
// confirmation for good if etcd has about what it had then (Confirmation.Services and Instances, by the same share), and
// else holds what is missing, as does an agent that follows some services only, and can't compare. A snapshot has what is held, and how many there were before, so that a restart lets nothing go.
//
// The decisions are made in the calls of the store alone, the last of them with its signs of life, each 10 s: an etcd that
// isn't heard removes nothing, and a configuration that is tried for a moment, and fails, lets nothing go.
package protect
