package sharedsocket

import "syscall"

// deferSeconds is how long a connection may wait for its client's first byte before it is handed out all the same.
const deferSeconds = 5

// deferAccept lets the kernel keep new connections back until the client has sent something, so that none waits in a
// server that is about to shut down.
func deferAccept(_, _ string, conn syscall.RawConn) error {
	var err error
	if control := conn.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, deferSeconds)
	}); control != nil {
		return control
	}
	return err
}
