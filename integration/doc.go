// Package integration tests the product as its users have it: the binaries that `make build` leaves in bin/, started with
// the Caddyfile and the Corefile of the top folder, against real servers. Nothing imports it.
//
// A test owns what it starts: processes, on ports of 127.0.0.1 that are free, with files in a folder of its own. When a
// test fails, the ends of its processes' logs are shown.
package integration
