package main

import "syscall"

// childAttributes makes a child end when this program dies without stopping it (kill -9), and keeps a terminal's Ctrl-C
// from it, so that it is stopped once, in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
