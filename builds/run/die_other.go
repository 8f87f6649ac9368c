//go:build !linux

package main

import "syscall"

// childAttributes keeps a terminal's Ctrl-C from a child, so that it is stopped once, in order. Elsewhere than on Linux
// nothing ends the children when this program is killed by SIGKILL.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
