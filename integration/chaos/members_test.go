package chaos

import (
	"fmt"
	"sync"
	"time"
)

// members tells who belongs to the service, and who belonged to it.
type members struct {
	mu     sync.Mutex
	byName map[string]*membership
	byIP   map[string]string
}

// membership is a backend's. A site must have heard that it is over by a time of its own, since it may be cut off.
type membership struct {
	over map[string]time.Time // by site; none: it isn't over there
}

func newMembers() *members {
	return &members{byName: map[string]*membership{}, byIP: map[string]string{}}
}

// add notes that a backend is about to be registered.
func (m *members) add(name, ip string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byName[name] = &membership{over: map[string]time.Time{}}
	m.byIP[ip] = name
}

// remove notes that a backend's registration is gone, and that what is sent at the site from then on mustn't get there.
func (m *members) remove(name, site string, from time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byName[name].over[site] = from
}

// named returns the name of the backend with an IP address.
func (m *members) named(ip string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, ok := m.byIP[ip]
	if !ok {
		return "", fmt.Errorf("%s is no backend's address", ip)
	}
	return name, nil
}

// allowed is nil if what was sent at the site then may get to the backend.
func (m *members) allowed(name, site string, sent time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	member, ok := m.byName[name]
	if !ok {
		return fmt.Errorf("%q is no backend", name)
	}
	if over, ok := member.over[site]; ok && sent.After(over) {
		return fmt.Errorf("%s isn't in the service, which had to be known %s ago", name, sent.Sub(over).Round(time.Millisecond))
	}
	return nil
}
