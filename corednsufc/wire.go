package corednsufc

import (
	"encoding/binary"
	"net"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// Most answers are successful, by UDP, and of one or two records. Such a one is written as the octets that go over the network,
// into a buffer that is used again, instead of as a dns.Msg, whose records would be allocated, measured, and packed: as much
// work as the choice itself. What isn't of this kind takes the long way (answer.go), which gives the same answer.

// transparent are the plugins of CoreDNS that hand on what is written, and take nothing from it but its size. Others want the
// message: log shows its flags, rewrite turns names back, cache keeps it.
var transparent = map[string]bool{
	"metadata": true, "bufsize": true, "prometheus": true, "errors": true, "any": true, "acl": true,
}

// canWriteRaw tells whether all plugins in front of ufc in its server block are transparent. CoreDNS has put the chain together
// when it starts.
func canWriteRaw(c *caddy.Controller) bool {
	block := dnsserver.GetConfig(c)
	// What decorates the writer sees only what is written as a message: the DNS library's Write goes past it.
	if byStream(c.ServerBlockKeys) || block.UDPDecorateWriterFunc != nil {
		return false
	}
	handlers := block.Handlers() // in the chain's order, but without those that have another name than their directive
	if len(handlers) != len(block.Plugin) {
		return false
	}
	for _, handler := range handlers {
		if handler.Name() == pluginName {
			return true
		}
		if !transparent[handler.Name()] {
			return false
		}
	}
	return false
}

// byStream tells whether a server block listens by QUIC, whose clients have UDP addresses, too: an answer ends with its stream, which
// only WriteMsg ends.
func byStream(keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool {
		return strings.HasPrefix(key, transport.QUIC+"://") || strings.HasPrefix(key, transport.HTTPS3+"://")
	})
}

// maxWire is the longest answer that is written packed: what EDNS clients commonly take without fragments. A longer one takes
// the long way, which cuts it to size.
const maxWire = 1232

// writePacked writes what the agent has chosen, if that can be packed. false: it is still to be written.
func (u *UFC) writePacked(q *query) bool {
	if q.refusal != nil || !u.packable(q) {
		return false
	}
	packed := q.pack(q.wire[:0])
	if packed == nil {
		return false
	}
	_, _ = q.w.Write(packed) // as with WriteMsg
	return true
}

// packable tells whether the answer may be written packed: the question came by UDP, and asks for nothing that has to be put in
// besides the records.
func (u *UFC) packable(q *query) bool {
	if !u.canWriteRaw.Load() || q.client.ecs != nil || len(q.r.Extra) > 1 || !plain(q.owner) {
		return false
	}
	if _, udp := q.w.RemoteAddr().(*net.UDPAddr); !udp {
		return false
	}
	if len(q.r.Extra) == 1 { // a signature (TSIG) is to be answered with one
		opt, ok := q.r.Extra[0].(*dns.OPT)
		return ok && len(opt.Option) == 0 && !u.stale(q.mesh)
	}
	return true
}

// plain tells whether a name that we hand out for can be written octet by octet. One that came by the network is never too long, but
// plugins may have changed it.
func plain(owner string) bool {
	const longestName, longestLabel = 254, 63
	return len(owner) <= longestName && strings.IndexByte(owner, '.') <= longestLabel && strings.IndexByte(owner, '\\') < 0
}

// The header's third octet. The fourth has only "checking disabled" here, which is copied.
const (
	bitResponse      = 1 << 7
	bitAuthoritative = 1 << 2
	bitRecursion     = 1 << 0
	bitNoChecking    = 1 << 4
)

const (
	headerSize  = 12
	extraCount  = 11     // the number of additional records; its upper octet is 0
	pointer     = 0xc000 // to a name that stands further up (RFC 1035, 4.1.4)
	questionPtr = pointer | headerSize
)

// pack writes the answer into b, which is empty. nil: it is larger than the client or the buffer takes.
func (q *query) pack(b []byte) []byte {
	flags, checking := byte(bitResponse|bitAuthoritative), byte(0)
	if q.r.RecursionDesired {
		flags |= bitRecursion
	}
	if q.r.CheckingDisabled {
		checking = bitNoChecking
	}
	b = binary.BigEndian.AppendUint16(b, q.r.Id)
	b = append(b, flags, checking, 0, 1, 0, byte(len(q.chosen)), 0, 0, 0, 0)
	b = append(appendName(b, q.owner), byte(q.qtype>>8), byte(q.qtype), 0, dns.ClassINET)
	if q.qtype == dns.TypeSRV {
		b = q.packSRV(b)
		b[extraCount] = byte(len(q.chosen))
	} else {
		for _, attempt := range q.chosen {
			b = q.packAddress(b, questionPtr, attempt)
		}
	}
	limit := dns.MinMsgSize
	if opt := q.r.IsEdns0(); opt != nil {
		b = packOPT(b, opt)
		b[extraCount]++
		limit = max(limit, int(opt.UDPSize()))
	}
	if len(b) > min(limit, maxWire) {
		return nil
	}
	return b
}

// packAddress writes an A or AAAA record, by the address's family.
func (q *query) packAddress(b []byte, owner uint16, attempt *agent.Attempt) []byte {
	address := attempt.Address().Addr()
	if address.Is4() {
		octets := address.As4()
		return append(q.packHead(b, owner, dns.TypeA, 4), octets[:]...)
	}
	octets := address.As16()
	return append(q.packHead(b, owner, dns.TypeAAAA, 16), octets[:]...)
}

// packHead writes what all records begin with. length is that of the data.
func (q *query) packHead(b []byte, owner, qtype uint16, length int) []byte {
	b = append(b, byte(owner>>8), byte(owner), byte(qtype>>8), byte(qtype), 0, dns.ClassINET)
	b = binary.BigEndian.AppendUint32(b, q.ttl)
	return append(b, byte(length>>8), byte(length))
}

// packSRV writes the SRV records and the addresses of their targets. A target is written in full (RFC 2782), the address's owner
// points to it.
func (q *query) packSRV(b []byte) []byte {
	var targets [maxAnswers]uint16
	host := q.host()
	ranks := rankSRV(q.chosen)
	for n, attempt := range q.chosen {
		head := len(b)
		b = q.packHead(b, questionPtr, dns.TypeSRV, 0)
		data := len(b)
		rank := ranks[n]
		port := attempt.Address().Port()
		b = append(b, byte(rank.priority>>8), byte(rank.priority), byte(rank.weight>>8), byte(rank.weight), byte(port>>8), byte(port))
		targets[n] = uint16(pointer | len(b))
		label := len(b)
		b = appendInstanceLabel(append(b, 0), attempt.Address())
		b[label] = byte(len(b) - label - 1)
		b = appendName(append(b, 1, 'i'), host)
		binary.BigEndian.PutUint16(b[head+10:], uint16(len(b)-data))
	}
	for n, attempt := range q.chosen {
		b = q.packAddress(b, targets[n], attempt)
	}
	return b
}

// packOPT writes the OPT record that CoreDNS would add: the question's, without options.
func packOPT(b []byte, opt *dns.OPT) []byte {
	size, do := opt.UDPSize(), byte(0)
	if opt.Do() {
		do = 1 << 7
	}
	return append(b, 0, 0, byte(dns.TypeOPT), byte(size>>8), byte(size), 0, 0, do, 0, 0, 0)
}

// appendName writes a name without escapes: each label's length stands where the dot before it does.
func appendName(b []byte, name string) []byte {
	length := len(b)
	b = append(append(b, 0), name...)
	if name == "." {
		return b[:length+1]
	}
	for i := length + 1; i < len(b); i++ {
		if b[i] == '.' {
			b[length] = byte(i - length - 1)
			length = i
		}
	}
	b[length] = 0
	return b
}
