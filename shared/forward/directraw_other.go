//go:build !unix

package forward

import (
	"net"
	"syscall"
)

// rawConn returns nil: here, reading isn't a call that says whether there is something to read.
func rawConn(net.Conn) syscall.RawConn { return nil }

func (c *directConn) converse([]byte) (int, error) { panic("forward: no connection has a descriptor") }

func (c *directConn) receiveOrSend(uintptr) bool { return true }
