// Package embeddedetcd is the Caddy module ufc.etcd.embedded: an etcd server within the Caddy process, for one machine,
// trying out and tests. A mesh of several machines wants an etcd cluster of its own.
//
// It is a package of its own, so that a build without it carries no etcd server. The app of package caddyufc loads it
// when its configuration says "etcd embedded DIR [ADDR]", starts it before it reads from it, and stops it last.
package embeddedetcd
