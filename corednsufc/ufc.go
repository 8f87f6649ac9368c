package corednsufc

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/mesh"
)

// UFC is the plugin in one server block.
type UFC struct {
	Next plugin.Handler

	config      *config
	held        atomic.Pointer[holding]   // nil: doesn't run
	mesh        atomic.Pointer[mesh.Mesh] // of held, and still there after it
	fresh       atomic.Bool               // etcd has been heard: of stale
	canWriteRaw atomic.Bool               // answers may be written packed: of packable
}

// Name implements plugin.Handler.
func (u *UFC) Name() string { return pluginName }

// Ready implements ready.Readiness: there is something to answer from, be it a snapshot.
func (u *UFC) Ready() bool {
	m := u.mesh.Load()
	return m != nil && m.Agent.Synced()
}

// ServeDNS implements plugin.Handler.
func (u *UFC) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if len(r.Question) == 0 {
		return dns.RcodeFormatError, nil
	}
	question := &r.Question[0]
	qname := strings.ToLower(question.Name)
	zone, offset := matchZone(u.config.zones, qname)
	// A name whose length changes has letters that no name of ours has, and an offset wouldn't hold in both.
	if zone == nil || question.Qclass != dns.ClassINET || len(qname) != len(question.Name) {
		return plugin.NextOrFailure(u.Name(), u.Next, ctx, w, r)
	}
	if r.Opcode != dns.OpcodeQuery {
		return dns.RcodeNotImplemented, nil
	}
	if question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR {
		return dns.RcodeRefused, nil
	}
	m := u.mesh.Load()
	if m == nil {
		return dns.RcodeServerFailure, nil // asked before the start
	}
	q := queries.Get().(*query)
	defer queries.Put(q)
	q.set(w, r, m, zone, qname[:offset], u.config.ttl)
	return u.serve(ctx, qname, q)
}

// serve answers a question within our zones.
func (u *UFC) serve(ctx context.Context, qname string, q *query) (int, error) {
	if !q.readSubnet() {
		return dns.RcodeFormatError, nil
	}
	var answer *dns.Msg
	if q.wantsInstance() {
		u.choose(q)
		if u.writePacked(q) {
			return dns.RcodeSuccess, nil
		}
		answer = u.handOut(q)
	} else {
		answer = u.answer(q)
	}
	if answer.Rcode == dns.RcodeNameError && !q.final && u.config.fall.Through(qname) {
		return plugin.NextOrFailure(u.Name(), u.Next, ctx, q.w, q.r)
	}
	if q.r.IsEdns0() != nil && !q.final && u.stale(q.mesh) {
		q.explainStale(answer)
	}
	if q.client.ecs != nil {
		q.answerSubnet(answer)
	}
	// The client is gone if this fails, and there is nobody else to tell.
	_ = q.w.WriteMsg(answer)
	return dns.RcodeSuccess, nil // written, whatever the answer's own code is
}

// Interface guards. The second is ready.Readiness, whose package would come into every build.
var (
	_ plugin.Handler            = (*UFC)(nil)
	_ interface{ Ready() bool } = (*UFC)(nil)
)
