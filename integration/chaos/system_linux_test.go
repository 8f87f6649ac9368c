package chaos

import (
	"fmt"
	"syscall"
)

// childOf makes a child end when this program does, however that ends.
func childOf() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// mountSmall mounts a file system of so many bytes on a folder.
func mountSmall(folder string, size int) error {
	return syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d", size))
}

// unmount takes it away, though files in it may be open.
func unmount(folder string) error { return syscall.Unmount(folder, syscall.MNT_DETACH) }
