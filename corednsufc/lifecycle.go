package corednsufc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"

	"github.com/ufc-mesh/ufc/shared/bypass"
	"github.com/ufc-mesh/ufc/shared/mesh"
	"github.com/ufc-mesh/ufc/shared/store"
)

// generation is the ufc blocks of one reading of the Corefile.
//
// A reload goes: the new generation is set up and started, the servers change over, the old one is shut down. If the new
// one fails, CoreDNS calls the old one's OnRestartFailed, and forgets the new one without a call to it. What that one had
// taken by then is given back by dropForgotten.
type generation struct {
	members []*UFC
}

// generationKey finds the generation in the storage of a CoreDNS instance.
type generationKey struct{}

func generationOf(c *caddy.Controller) *generation {
	g, ok := c.Get(generationKey{}).(*generation)
	if !ok {
		g = &generation{}
		c.Set(generationKey{}, g)
	}
	return g
}

// add takes a block in, if it agrees with those before it.
func (g *generation) add(u *UFC) error {
	for _, other := range g.members {
		if err := other.config.agrees(u.config); err != nil {
			return err
		}
	}
	if len(g.members) > 0 && !sameMesh(&g.members[0].config.mesh.Store, &u.config.mesh.Store) {
		u.config.unexported = true
	}
	g.members = append(g.members, u)
	return nil
}

// sameMesh tells whether two blocks mean the same mesh, in whatever order they name its endpoints.
func sameMesh(a, b *store.Config) bool {
	return a.Prefix == b.Prefix && slices.Equal(slices.Sorted(slices.Values(a.Endpoints)), slices.Sorted(slices.Values(b.Endpoints)))
}

// agrees tells why two blocks can't stand in one process: they share what belongs to the mesh and to the listener.
func (cfg *config) agrees(other *config) error {
	same := sameMesh(&cfg.mesh.Store, &other.mesh.Store)
	if same {
		if differ := difference(&cfg.mesh, &other.mesh); differ != nil {
			return fmt.Errorf("this block and the one at %s attach to the same mesh, but differ in %s", cfg.where, strings.Join(differ, ", "))
		}
	}
	if cfg.callback == "" || cfg.callback != other.callback {
		return nil
	}
	if !same {
		return fmt.Errorf("callback %q: taken by the block at %s, which is of another mesh", cfg.callback, cfg.where)
	}
	if cfg.token != other.token {
		return fmt.Errorf("callback %q: shared with the block at %s, which has another token", cfg.callback, cfg.where)
	}
	if cfg.callbackBy != other.callbackBy {
		return fmt.Errorf("callback %q: shared with the block at %s, which has another callback_by", cfg.callback, cfg.where)
	}
	return nil
}

// difference names the options of the mesh in which two blocks differ.
func difference(a, b *mesh.Config) []string {
	var names []string
	for name, equal := range map[string]bool{
		"etcd":        slices.Equal(a.Store.Endpoints, b.Store.Endpoints), // in another order
		"credentials": a.Store.Username == b.Store.Username && a.Store.Password == b.Store.Password,
		"tls":         a.Store.Cert == b.Store.Cert && a.Store.Key == b.Store.Key && a.Store.CA == b.Store.CA,
		"snapshot":    a.Store.Snapshot == b.Store.Snapshot,
		"idc":         a.IDC == b.IDC,
		"agent_id":    a.AgentID == b.AgentID,
		"host":        a.Host == b.Host,
		"follow":      slices.Equal(a.Follow, b.Follow),
		"protect":     a.Protect == b.Protect,
	} {
		if !equal {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// started are the generations that hold something.
var started = struct {
	mu          sync.Mutex
	generations map[*generation]struct{}
}{generations: map[*generation]struct{}{}}

// start is a block's OnStartup. If one block of a generation fails, none of it will serve, and CoreDNS calls none of them
// any more: all give back what they hold.
func (g *generation) start(u *UFC) error {
	started.mu.Lock()
	started.generations[g] = struct{}{}
	started.mu.Unlock()
	if err := u.start(); err != nil {
		g.stop()
		return plugin.Error(pluginName, fmt.Errorf("%s: %w", u.config.where, err))
	}
	dropForgotten() // after start, so that a mesh that both hold lives on
	return nil
}

// end is a block's OnShutdown.
func (g *generation) end(u *UFC) {
	u.stop()
	if slices.ContainsFunc(g.members, func(u *UFC) bool { return u.held.Load() != nil }) {
		return
	}
	started.mu.Lock()
	delete(started.generations, g)
	started.mu.Unlock()
}

func (g *generation) stop() {
	for _, u := range g.members {
		g.end(u)
	}
}

// dropForgotten stops the generations that hold something but belong to no CoreDNS instance that lives: those of a start
// or reload that failed.
func dropForgotten() {
	alive := map[*generation]bool{}
	for _, instance := range caddy.Instances() {
		instance.StorageMu.RLock()
		if g, ok := instance.Storage[generationKey{}].(*generation); ok {
			alive[g] = true
		}
		instance.StorageMu.RUnlock()
	}
	var forgotten []*generation
	started.mu.Lock()
	for g := range started.generations {
		if !alive[g] {
			forgotten = append(forgotten, g)
		}
	}
	started.mu.Unlock()
	for _, g := range forgotten {
		g.stop()
	}
}

// holding is what a block holds while it runs.
type holding struct {
	mesh     *mesh.Mesh
	callback *callbackListener // nil: none is configured

	releaseStacks func()
}

func (u *UFC) newBypass(m *mesh.Mesh) *bypass.Handler {
	return bypass.New(m.Agent, m.Query, bypass.Options{Token: u.config.token, CallbackBy: u.config.callbackBy})
}

// start takes what the block needs.
func (u *UFC) start() error {
	m, err := mesh.Acquire(u.config.mesh)
	if err != nil {
		return err
	}
	held := &holding{mesh: m}
	if u.config.callback != "" {
		if held.callback, err = callbacks.acquire(u.config.callback, u.newBypass(m)); err != nil {
			m.Release()
			return err
		}
	}
	exported.add(m.Metrics())
	m.Start()
	held.releaseStacks = holdStacks()
	u.held.Store(held)
	u.mesh.Store(m)
	u.config.warn()
	return nil
}

// warn tells what the user may be surprised by.
func (cfg *config) warn() {
	if cfg.unexported {
		log.Warningf("%s: the metrics of this mesh are not exported: one process exports those of one mesh", cfg.where)
	}
	if cfg.token != "" && cfg.callback == "" {
		log.Warningf("%s: the token has no use without callback", cfg.where)
	}
	if cfg.callback != "" && !isLoopback(cfg.callback) {
		log.Warningf("%s: callback %q listens for other machines: whoever reaches it gets backends and may report on what it was "+
			"handed out; bind it to 127.0.0.1, or let only those in who may", cfg.where, cfg.callback)
	}
}

// isLoopback tells whether only programs of this machine reach a HOST:PORT.
func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	address, _ := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || address.Unmap().IsLoopback())
}

// restore is OnRestartFailed: the settings that a new generation has put in force before it failed are this block's again.
func (u *UFC) restore() error {
	dropForgotten() // whose hold on the mesh goes, and its settings with it
	held := u.held.Load()
	if held == nil {
		return errors.New("plugin/ufc: not running")
	}
	if held.callback != nil {
		held.callback.handler.Store(u.newBypass(held.mesh))
	}
	return nil
}

// stop gives back what the block holds. Queries that still come are answered by an agent that stands still.
func (u *UFC) stop() {
	held := u.held.Swap(nil)
	if held == nil {
		return
	}
	if held.callback != nil {
		held.callback.release()
	}
	exported.remove(held.mesh.Metrics())
	held.releaseStacks()
	held.mesh.Release()
}
