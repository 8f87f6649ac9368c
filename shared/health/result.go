package health

import (
	"errors"
	"syscall"
)

// Result is what became of one attempt, as communication goes. An HTTP status is not one: what the callee answers is its
// own business.
type Result uint8

// The results. Canceled stands for everything that says nothing about the instance: the client went away, the losing half
// of a hedge, a deadline that was over before.
const (
	OK Result = iota
	ConnectError
	ConnectTimeout
	WriteError
	WriteTimeout
	ReadError
	ReadTimeout
	Reset
	Error
	Canceled
	results
)

var resultNames = [results]string{
	OK: "ok", ConnectError: "connect_error", ConnectTimeout: "connect_timeout", WriteError: "write_error",
	WriteTimeout: "write_timeout", ReadError: "read_error", ReadTimeout: "read_timeout", Reset: "reset", Error: "error",
	Canceled: "canceled",
}

// Results is how many results there are, for tables indexed by Result.
const Results = int(results)

// String returns the name that callbacks and metrics use.
func (r Result) String() string {
	if r >= results {
		return "unknown"
	}
	return resultNames[r]
}

// Failure tells whether the result counts against the instance.
func (r Result) Failure() bool { return r != OK && r < Canceled }

// ParseResult returns the result that a callback names. Canceled can't be reported: who has nothing to say says nothing.
func ParseResult(name string) (Result, bool) {
	for r := OK; r < Canceled; r++ {
		if resultNames[r] == name {
			return r, true
		}
	}
	return 0, false
}

// OwnFault tells whether a connect failed for want of something on this machine: files, ports, memory, permission. Held
// against the instances, it would ban all of them at once, since the probes fail as well.
func OwnFault(err error) bool {
	for _, number := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EPERM,
	} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

// TimedOut tells whether a failure was a time limit's, such as that nothing answered a connect, rather than that the port refused.
func TimedOut(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
