package health

import (
	"time"
)

func (i *Instance) setGone(gone bool) {
	i.mu.Lock()
	i.gone = gone
	i.mu.Unlock()
}

func (i *Instance) isGone() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.gone
}

// prove probes an instance that refused a connection. A probe that fails too is proof: two refusals on different
// connections, the second by our own hand, are no accident of one request.
func (m *Monitor) prove(i *Instance, generation uint32) {
	if !i.probing.CompareAndSwap(false, true) {
		return
	}
	m.run(func() {
		defer i.probing.Store(false)
		err := m.probe(m.ctx, i.Address, i.service.policy.Load().Probe.Timeout.Std())
		if err != nil && !OwnFault(err) && m.ctx.Err() == nil {
			m.begin(i, generation, ByProof, i.Failures(), err.Error())
		}
	})
}

// begin bans an instance, unless its state has changed since the given generation.
func (m *Monitor) begin(i *Instance, generation uint32, reason Reason, failures int, lastErr string) {
	duration := i.service.policy.Load().Duration.Std()
	i.mu.Lock()
	if i.banned.Load() || i.gone || m.ctx.Err() != nil || !i.generation.CompareAndSwap(generation, generation+1) {
		i.mu.Unlock()
		return
	}
	now := time.Now()
	i.ban = &ban{
		BanInfo: BanInfo{Reason: reason, Since: now, Until: now.Add(duration), Failures: failures, LastErr: lastErr},
		timer:   time.AfterFunc(duration, func() { m.run(func() { m.expire(i) }) }),
	}
	i.bans++
	i.banned.Store(true)
	i.mu.Unlock()

	m.logger.Warn("instance banned", "service", i.service.Name, "instance", i.Address.String(), "reason", string(reason),
		"failures", failures, "duration", duration, "probe_error", lastErr)
	i.service.changed(i, true, reason)
}

// expire is the end of a ban's time: the port is probed, and the instance comes back only if it answers; else the ban
// goes on for its duration again.
func (m *Monitor) expire(i *Instance) {
	policy := i.service.policy.Load()
	err := m.probe(m.ctx, i.Address, policy.Probe.Timeout.Std())
	if m.ctx.Err() != nil || i.service.forget(i) {
		return
	}
	if err != nil {
		again := policy.Duration.Std()
		if OwnFault(err) { // the probe tells nothing of the instance
			again = min(again, time.Second)
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.ban.LastErr = err.Error()
		i.ban.Until = time.Now().Add(again)
		i.ban.timer.Reset(again)
		return
	}
	i.mu.Lock()
	ended := i.ban
	i.ban = nil
	i.window.Store(0)
	i.generation.Add(1)
	i.banned.Store(false)
	i.mu.Unlock()

	m.logger.Info("instance back", "service", i.service.Name, "instance", i.Address.String(),
		"reason", string(ended.Reason), "banned_for", time.Since(ended.Since))
	i.service.changed(i, false, ended.Reason)
}
