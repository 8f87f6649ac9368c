//go:build !linux

package chaos

import (
	"errors"
	"syscall"
)

// The tests need Linux: nothing of this is called elsewhere.

func childOf() *syscall.SysProcAttr { return nil }

func mountSmall(string, int) error { return errors.ErrUnsupported }

func unmount(string) error { return errors.ErrUnsupported }
