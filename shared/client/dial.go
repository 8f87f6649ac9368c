package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// maxDials is how many instances one dial tries, as many as a service's requests are sent to by default.
	maxDials = 3
	// defaultConnect is how long the connect to an instance may take where the agent names no limit.
	defaultConnect = 300 * time.Millisecond
	// maxName is how long a service's name may be.
	maxName = 62
)

// Dial is DialContext for TCP, in the form of mysql.RegisterDialContext and grpc.WithContextDialer.
func (c *Client) Dial(ctx context.Context, address string) (net.Conn, error) {
	return c.DialContext(ctx, "tcp", address)
}

// DialContext connects to an instance of the service that the address names: redis-main, or redis-main:6379, whose port is
// not looked at, since instances have their own. If the connect fails, another instance is tried, up to three, as long as the
// context allows; a connect takes no longer than the callee's time limit. What came of it is reported: see the package's
// comment.
//
// An address that can't be a service's is dialed as net.Dialer does: IP addresses, localhost, names with a dot, and networks
// other than tcp, tcp4 and tcp6.
//
// Its error wraps a *Refusal if the agent hands out no instance, or the errors of the connects.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	service, ok := serviceOf(network, address)
	if !ok {
		return c.dial(ctx, network, address)
	}
	var tried []netip.AddrPort
	var failures []error
	for range maxDials {
		given, err := c.choose(ctx, service, network, tried)
		if err != nil && len(failures) > 0 && errors.Is(err, ErrNoInstance) {
			break // the connects' errors say more
		}
		if err != nil {
			failures = append(failures, err)
			break
		}
		conn, err := c.connect(ctx, network, given)
		if err == nil {
			return conn, nil
		}
		tried = append(tried, given.address)
		failures = append(failures, err)
		if ended(ctx) || ownFault(err) {
			break
		}
	}
	return nil, fmt.Errorf("dialing service %q: %w", service, errors.Join(failures...))
}

// LookupHost returns the name of a service itself, and the addresses of other hosts. It is for clients that insist on resolving
// names before they dial, as pgx does, where DialContext is to get the name.
func (c *Client) LookupHost(ctx context.Context, host string) ([]string, error) {
	if isService(host) {
		return []string{host}, nil
	}
	return net.DefaultResolver.LookupHost(ctx, host)
}

// choose gets an instance that wasn't tried yet. Asked for one more than were tried, the agent names one that is new even if it
// still thinks well of the others.
func (c *Client) choose(ctx context.Context, service, network string, tried []netip.AddrPort) (handout, error) {
	given, err := c.ask(ctx, service, network, len(tried)+1)
	if err != nil {
		return handout{}, err
	}
	for _, h := range given {
		if !slices.Contains(tried, h.address) && fits(network, h.address.Addr()) {
			return h, nil
		}
	}
	return handout{}, fmt.Errorf("service %q: %w left to try by %s", service, ErrNoInstance, network)
}

// fits tells whether a network's sockets reach an address: older agents hand out any.
func fits(network string, address netip.Addr) bool {
	switch network {
	case "tcp4":
		return address.Unmap().Is4()
	case "tcp6":
		return !address.Unmap().Is4()
	default:
		return true
	}
}

// connect connects to one instance, and reports if that fails.
func (c *Client) connect(ctx context.Context, network string, to handout) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, cmp.Or(to.connect, defaultConnect))
	defer cancel()
	start := time.Now()
	inner, err := c.dial(limited, network, to.address.String())
	took := time.Since(start)
	if err == nil {
		return c.track(inner, to, took), nil
	}
	switch {
	case ended(ctx), ownFault(err): // says nothing about the instance
	case isTimeout(err):
		c.reports.add(to.report(resultConnectTimeout, took))
	default:
		c.reports.add(to.report(resultConnectError, took))
	}
	return nil, fmt.Errorf("connecting to %s: %w", to.address, err)
}

// ended tells whether a context is done, or will be at this moment: the deadline of a connect may be noticed before the
// context's own timer fires.
func ended(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// ownFault tells whether a connect failed for want of something on this machine: files, ports, memory, permission. Held against
// the instances it would ban all of them at once.
func ownFault(err error) bool {
	for _, number := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EPERM,
	} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

// serviceOf returns the service that an address names.
func serviceOf(network, address string) (service string, ok bool) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return "", false
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	return address, isService(address)
}

// isService tells whether a host has the form of a service's name.
func isService(host string) bool {
	if host == "" || len(host) > maxName || host == "localhost" {
		return false
	}
	return strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
