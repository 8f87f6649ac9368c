// Package catalog is the live view of the mesh's configuration in memory: one immutable View per service, behind atomic
// pointers, so that a reader takes no lock and sees a service whole. A store writes it (Replace, Apply, Confirm); the
// agent is told what changed (Subscribe). The catalog decides nothing about traffic.
//
// A record that was refused leaves its last good version in place, and is listed by Rejected until it is mended.
package catalog
