package corednsufc

import (
	"sync"

	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/mesh"
)

// query is one question within our zones, and what it takes to answer it. It is used again, and so are its parts: nobody keeps a
// call whose instances are handed out by DNS, since they are reported by their address.
//
// It is also here to keep the stack short. CoreDNS answers each question in a goroutine of its own, whose stack is copied each time
// it gets too long (stacks.go).
type query struct {
	name
	w     dns.ResponseWriter
	r     *dns.Msg
	mesh  *mesh.Mesh
	zone  *zone
	qtype uint16
	ttl   uint32
	final bool // whatever the answer's code, neither is the next plugin asked, nor is it stale

	client client // who asks

	// The question's name and the part of it that is the zone, in the case that the client chose: resolvers that choose
	// it at random (0x20) want it back, and names of one case compress.
	owner, suffix string

	call    agent.Call // if it asks for an instance
	chosen  []*agent.Attempt
	refusal *agent.Refusal // why none was chosen

	room [maxAnswers]*agent.Attempt // of chosen
	wire [maxWire]byte              // the answer, if it is written packed
}

var queries = sync.Pool{New: func() any { return new(query) }}

// set sets the question. labels is its name without the zone, in lower case. What isn't set here is set when it is needed.
func (q *query) set(w dns.ResponseWriter, r *dns.Msg, m *mesh.Mesh, in *zone, labels string, ttl uint32) {
	question := &r.Question[0]
	q.name, q.owner, q.suffix = parseName(labels), question.Name, question.Name[len(labels):]
	q.w, q.r, q.mesh, q.zone, q.qtype, q.ttl, q.final = w, r, m, in, question.Qtype, ttl, false
	q.client, q.chosen, q.refusal = client{}, nil, nil
}
