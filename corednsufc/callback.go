package corednsufc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/ufc-mesh/ufc/shared/bypass"
)

const (
	callbackPath = "/bypass"
	// maxCallbackConns bounds what a hostile or broken client can hold open. Programs keep one connection each.
	maxCallbackConns = 4096
	// maxCallbackHeader is enough for a token and what HTTP libraries add by themselves.
	maxCallbackHeader = 16 << 10
	// callbackGrace is what callbacks under way get at the end.
	callbackGrace = 2 * time.Second
)

// callbackPool holds the callback listeners of this process by address. CoreDNS starts a new configuration before it stops the
// old one, and several server blocks may name one address: all of them hold the one listener, by reference, and the last
// to come sets its handler. The port is not shared with other processes (SO_REUSEPORT), which would get a part of the
// callbacks without a word.
type callbackPool struct {
	mu        sync.Mutex
	listeners map[string]*callbackListener
}

var callbacks = callbackPool{listeners: map[string]*callbackListener{}}

// callbackListener serves /bypass at one address.
type callbackListener struct {
	pool    *callbackPool
	address string
	users   int // guarded by pool.mu

	handler  atomic.Pointer[bypass.Handler]
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup
}

// acquire returns the listener at an address, with its handler changed to this one. Release it.
func (p *callbackPool) acquire(address string, handler *bypass.Handler) (*callbackListener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[address]
	if l == nil {
		var err error
		if l, err = p.listen(address); err != nil {
			return nil, err
		}
		p.listeners[address] = l
	}
	l.users++
	l.handler.Store(handler)
	return l, nil
}

func (p *callbackPool) listen(address string) (*callbackListener, error) {
	listener, err := net.Listen("tcp", address)
	if own := p.covering(address); err != nil && own != "" {
		return nil, fmt.Errorf("callback %q: %w: by this process, at %q; name the same address in all blocks, and restart CoreDNS to change "+
			"from one to the other", address, err, own)
	}
	if err != nil {
		return nil, fmt.Errorf("callback %q: %w; free the address, or give the option callback another one", address, err)
	}
	l := &callbackListener{pool: p, address: address, listener: netutil.LimitListener(listener, maxCallbackConns)}
	l.server = &http.Server{
		Handler:           http.HandlerFunc(l.serve),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxCallbackHeader,
		ErrorLog:          slog.NewLogLogger(newLogHandler(), slog.LevelWarn),
	}
	l.serving.Go(func() {
		if err := l.server.Serve(l.listener); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			log.Errorf("callback %q: no longer served: %v", address, err)
		}
	})
	return l, nil
}

// covering returns the address of a listener of ours that is in the way of another one, by another name: of the same port, and at all
// addresses or at localhost, which is one of them. Empty: there is none. The lock is held.
func (p *callbackPool) covering(address string) string {
	host, port, _ := net.SplitHostPort(address)
	for own := range p.listeners {
		if ownHost, ownPort, _ := net.SplitHostPort(own); ownPort == port && (wide(host) || wide(ownHost)) {
			return own
		}
	}
	return ""
}

func wide(host string) bool {
	return host == "" || host == "localhost" || net.ParseIP(host).IsUnspecified()
}

func (l *callbackListener) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != callbackPath {
		http.NotFound(w, r)
		return
	}
	l.handler.Load().ServeHTTP(w, r)
}

// release gives the listener back. The last user's release closes it, after the callbacks under way.
func (l *callbackListener) release() {
	l.pool.mu.Lock()
	l.users--
	last := l.users == 0
	if last {
		delete(l.pool.listeners, l.address)
		l.listener.Close() // at once: whoever acquires the address next must get it
	}
	l.pool.mu.Unlock()
	if !last {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callbackGrace)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		_ = l.server.Close() // cuts who is left; there is nothing to learn
	}
	l.serving.Wait()
}
