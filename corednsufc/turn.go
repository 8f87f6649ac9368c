package corednsufc

import (
	"sync"

	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/mesh"
)

// turn is what one question needs while it is answered. It is used again, and so are its parts: nobody keeps a call whose instances
// are handed out by DNS, since they are reported by their address.
//
// It is also here to keep the stack short. CoreDNS answers each question in a goroutine of its own, whose stack is copied each time
// it gets too long: from 4 to 8 KiB that took as long as the choice of an instance.
type turn struct {
	query   query
	call    agent.Call
	chosen  []*agent.Attempt
	refusal error // why none was chosen

	buffer [maxAnswers]*agent.Attempt // of chosen
	wire   [maxWire]byte
}

var turns = sync.Pool{New: func() any { return new(turn) }}

// ask sets the question. It isn't inlined, nor is begin: their temporary copies needn't lie on the stack of what follows.
//
//go:noinline
func (t *turn) ask(w dns.ResponseWriter, r *dns.Msg, m *mesh.Mesh, in *zone, labels string, ttl uint32) {
	question := &r.Question[0]
	t.query = query{
		name: parseName(labels), w: w, r: r, mesh: m, zone: in,
		owner: question.Name, suffix: question.Name[len(labels):], qtype: question.Qtype, ttl: ttl,
	}
	t.chosen, t.refusal = nil, nil
}

// begin sets the call.
//
//go:noinline
func (t *turn) begin(idc string) {
	q := &t.query
	t.call = agent.Call{
		Callee: q.service, Caller: q.caller, Class: agent.DefaultClass, HandOut: true, Family: familyOf(q.qtype),
		IDC: idc, Client: q.asker(),
	}
}
