package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// packet writes a DNS message down as it is, whatever may be wrong with it.
type packet []byte

func newPacket(flags uint16, counts ...uint16) packet {
	p := packet{0x12, 0x34}
	p = binary.BigEndian.AppendUint16(p, flags)
	for n := range 4 {
		count := uint16(0)
		if n < len(counts) {
			count = counts[n]
		}
		p = binary.BigEndian.AppendUint16(p, count)
	}
	return p
}

func (p packet) name(labels ...string) packet {
	for _, label := range labels {
		p = append(append(p, byte(len(label))), label...)
	}
	return append(p, 0)
}

func (p packet) words(words ...uint16) packet {
	for _, word := range words {
		p = binary.BigEndian.AppendUint16(p, word)
	}
	return p
}

// option adds an OPT record with a size for answers and one option.
func (p packet) option(size, code uint16, data ...byte) packet {
	p = append(p, 0).words(dns.TypeOPT, size, 0, 0, uint16(4+len(data)), code, uint16(len(data)))
	return append(p, data...)
}

// hostilePackets are what no resolver sends.
func hostilePackets() map[string]packet {
	const asks = 0x0100 // RD
	question := func(p packet) packet { return p.name("shop", "ufc", "internal").words(dns.TypeSRV, dns.ClassINET) }
	all := map[string]packet{
		"empty":                    {},
		"one byte":                 {0},
		"a cut head":               newPacket(asks, 1)[:11],
		"no question":              newPacket(asks),
		"65,535 questions":         question(newPacket(asks, 65535)),
		"many questions":           newPacket(asks, 1000),
		"two questions":            question(question(newPacket(asks, 2))),
		"65,535 answers":           question(newPacket(asks, 1, 65535)),
		"65,535 of everything":     question(newPacket(asks, 65535, 65535, 65535, 65535)),
		"an answer":                question(newPacket(0x8180, 1)),
		"an answer to nothing":     newPacket(0x8180),
		"a name that is itself":    append(newPacket(asks, 1), 0xc0, 12).words(dns.TypeA, dns.ClassINET),
		"two names in a circle":    append(newPacket(asks, 1), 0xc0, 14, 0xc0, 12).words(dns.TypeA, dns.ClassINET),
		"a name further on":        append(newPacket(asks, 1), 0xc0, 200).words(dns.TypeA, dns.ClassINET),
		"a name in the head":       append(newPacket(asks, 1), 0xc0, 0).words(dns.TypeA, dns.ClassINET),
		"a growing circle":         append(append(newPacket(asks, 1), 4), "shop\xc0\x0c"...).words(dns.TypeA, dns.ClassINET),
		"a label of 64":            append(append(newPacket(asks, 1), 64), strings.Repeat("a", 64)+"\x00"...).words(dns.TypeA, dns.ClassINET),
		"a label of another kind":  append(append(newPacket(asks, 1), 0x80), strings.Repeat("a", 64)+"\x00"...).words(dns.TypeA, dns.ClassINET),
		"a name of 300":            newPacket(asks, 1).name(strings.Split(strings.Repeat("aaaaaaaaa ", 30), " ")[:30]...).words(dns.TypeA, dns.ClassINET),
		"a name without end":       append(append(newPacket(asks, 1), 63), "shop"...),
		"odd bytes":                newPacket(asks, 1).name("sh\x00op", "a.b", "\xff\xfe", "ufc", "internal").words(dns.TypeA, dns.ClassINET),
		"no class":                 newPacket(asks, 1).name("shop", "ufc", "internal").words(dns.TypeA),
		"any class":                newPacket(asks, 1).name("shop", "ufc", "internal").words(dns.TypeANY, dns.ClassANY),
		"a transfer":               newPacket(asks, 1).name("ufc", "internal").words(dns.TypeAXFR, dns.ClassINET),
		"an incremental transfer":  newPacket(asks, 1).name("ufc", "internal").words(dns.TypeIXFR, dns.ClassINET),
		"an update":                question(newPacket(asks|5<<11, 1)),
		"a notification":           question(newPacket(asks|4<<11, 1)),
		"an unknown operation":     question(newPacket(asks|15<<11, 1)),
		"an OPT question":          newPacket(asks, 1).name("shop", "ufc", "internal").words(dns.TypeOPT, dns.ClassINET),
		"two OPTs":                 question(newPacket(asks, 1, 0, 0, 2)).option(4096, 0).option(512, 0),
		"an OPT among the answers": question(newPacket(asks, 1, 1)).option(4096, 0),
		"a cut OPT":                question(newPacket(asks, 1, 0, 0, 1)).option(4096, 8, 0, 1, 24)[:40],
		"an OPT of no size":        question(newPacket(asks, 1, 0, 0, 1)).option(0, 0),
		"an OPT of all sizes":      question(newPacket(asks, 1, 0, 0, 1)).option(65535, 0),
		"an OPT of version 255":    append(question(newPacket(asks, 1, 0, 0, 1)), 0).words(dns.TypeOPT, 4096, 255, 0, 0),
		"a long rest":              append(question(newPacket(asks, 1)), make([]byte, 4000)...),
	}
	for name, subnet := range map[string][]byte{
		"nothing": {}, "one byte": {0}, "no family": {0, 0, 0, 0}, "family 3": {0, 3, 24, 0, 1, 2, 3}, "a prefix of 255": {0, 1, 255, 0, 1, 2, 3, 4},
		"a prefix without address": {0, 1, 24, 0}, "too much of an address": {0, 1, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8}, "bits behind the prefix": {0, 1, 8, 0, 255},
		"a scope": {0, 1, 24, 24, 10, 0, 0}, "65,000 bytes": make([]byte, 60_000),
	} {
		all["client subnet: "+name] = question(newPacket(asks, 1, 0, 0, 1)).option(1232, 8, subnet...)
	}
	whole := question(newPacket(asks, 1, 0, 0, 1)).option(1232, 8, 0, 1, 24, 0, 10, 0, 0)
	for length := range whole {
		all[fmt.Sprintf("cut after %d", length)] = whole[:length]
	}
	return all
}

// asker sends packets, each by an id of its own, and keeps the sizes of what is answered to each.
type asker struct {
	t     testing.TB
	conn  net.Conn
	names []string
	sent  []packet
	got   map[uint16][]int
}

func newAsker(t testing.TB, port int) *asker {
	t.Helper()
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &asker{t: t, conn: conn, got: map[uint16][]int{}}
}

func (a *asker) ask(name string, p packet) {
	p = append(packet{}, p...)
	if len(p) >= 2 {
		binary.BigEndian.PutUint16(p, uint16(len(a.sent)))
	}
	a.names, a.sent = append(a.names, name), append(a.sent, p)
	_, _ = a.conn.Write(p) // one that is too large for the system is none
	a.read(time.Millisecond)
}

// read takes what was answered, until nothing comes for a while.
func (a *asker) read(patience time.Duration) {
	answer := make([]byte, 65536)
	for {
		_ = a.conn.SetReadDeadline(time.Now().Add(patience))
		n, err := a.conn.Read(answer)
		if err != nil {
			return
		}
		if n < 12 {
			a.t.Errorf("an answer of %d bytes: %x", n, answer[:n])
			continue
		}
		id := binary.BigEndian.Uint16(answer)
		a.got[id] = append(a.got[id], n)
	}
}

func (a *asker) check() {
	a.t.Helper()
	a.read(2 * time.Second)
	answered := 0
	for n, p := range a.sent {
		sizes := a.got[uint16(n)]
		if len(p) < 2 {
			sizes = nil
		}
		answered += len(sizes)
		if len(sizes) > 1 || len(sizes) == 1 && sizes[0] > limitOf(p) {
			a.t.Errorf("%s: is answered by %d bytes, %d are allowed", a.names[n], sizes, limitOf(p))
		}
		if len(p) > 2 && p[2]&0x80 != 0 && len(sizes) > 0 {
			a.t.Errorf("%s: an answer is answered", a.names[n])
		}
	}
	if answered < len(a.sent)/4 {
		a.t.Errorf("of %d packets %d are answered", len(a.sent), answered)
	}
	a.t.Logf("of %d packets %d are answered", len(a.sent), answered)
}

// limitOf is how large an answer to a packet may be: as its OPT says, else 512 bytes.
func limitOf(p packet) int {
	if m := new(dns.Msg); m.Unpack(p) == nil {
		if opt := m.IsEdns0(); opt != nil {
			return max(int(opt.UDPSize()), dns.MinMsgSize)
		}
	}
	return dns.MinMsgSize
}

// No packet ends the DNS, or makes it large, or is answered by more than it asks for; what says that it is an answer isn't
// answered at all.
func TestHostileDNS(t *testing.T) {
	t.Parallel()
	addresses := make([]string, 50)
	for n := range addresses {
		addresses[n] = fmt.Sprintf("10.0.0.%d:80", n)
	}
	m := newMesh(t)
	m.startCaddy()
	m.startCoreDNS(replace(t, "token {$UFC_TOKEN}", "token {$UFC_TOKEN}\nanswers 16"))
	m.apply(documents("shop", "", addresses...))
	m.untilCurrent()
	m.coredns.forgetMost()
	before := m.coredns.memory("VmRSS")

	c := newAsker(t, m.dns)
	for name, p := range hostilePackets() {
		c.ask(name, p)
	}
	random := rand.New(rand.NewPCG(1, 2))
	whole := hostilePackets()["a long rest"]
	for n := range 5000 {
		p := append(packet{}, whole[:20+random.IntN(60)]...)
		for range 1 + random.IntN(8) {
			p[2+random.IntN(len(p)-2)] = byte(random.Uint32())
		}
		c.ask(fmt.Sprintf("random %d: %x", n, p), p)
	}
	c.check()
	t.Run("TCP", func(t *testing.T) { m.hostileTCP(t) })
	select {
	case <-m.coredns.done:
		t.Fatal("the DNS has ended")
	default:
	}
	if text := m.coredns.output(); strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") || len(text) > 1<<20 {
		t.Errorf("the log, of %d bytes, ends\n%s", len(text), m.coredns.tail(30))
	}
	if most := m.coredns.memory("VmHWM"); most > before+64<<20 {
		t.Errorf("memory grew from %d to %d MiB", before>>20, most>>20)
	}
	if _, err := m.lookup("shop"); err != nil {
		t.Error(err)
	}
}

// hostileTCP opens connections that lie about lengths, or stand still, and asks over others meanwhile.
func (m *mesh) hostileTCP(t *testing.T) {
	query, err := new(dns.Msg).SetQuestion("shop.ufc.internal.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	conns := map[string][]net.Conn{}
	for name, sent := range map[string][]byte{
		"nothing": {}, "half a length": {0}, "length 0": {0, 0}, "length 1": {0, 1, 0}, "a length that is too long": append([]byte{255, 255}, query...),
		"a length that is too short": append([]byte{0, 5}, query...), "a cut message": framed[:len(framed)-3],
	} {
		for range 100 {
			conn := raw(t, m.dns)
			_, _ = conn.Write(sent)
			conns[name] = append(conns[name], conn)
		}
	}
	if d := m.dig("+tcp", "shop."+zone, "A"); d.status != "NOERROR" {
		t.Errorf("meanwhile the status is %s", d.status)
	}
	deadline := time.Now().Add(30 * time.Second)
	for name, opened := range conns {
		for _, conn := range opened {
			_ = conn.SetReadDeadline(deadline)
			if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
				t.Errorf("%s: the connection stands for 30 s", name)
				break
			}
		}
	}
	// Many questions in one go are each answered, or the connection is closed.
	conn := raw(t, m.dns)
	go func() {
		for range 1000 {
			if _, err := conn.Write(framed); err != nil {
				return
			}
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	length := make([]byte, 2)
	for answers := 0; answers < 1000; answers++ {
		if _, err := io.ReadFull(conn, length); err != nil {
			if answers < 100 || isTimeout(err) {
				t.Errorf("after %d answers: %v", answers, err)
			}
			break
		}
		if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint16(length))); err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
			break
		}
	}
}
