//go:build !linux

package sharedsocket

import "syscall"

// deferAccept does nothing: this system can't keep connections back until the client has sent something.
func deferAccept(_, _ string, _ syscall.RawConn) error { return nil }
