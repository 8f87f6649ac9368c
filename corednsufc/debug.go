package corednsufc

import (
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
)

const (
	// maxDebugLines is how many instances a debug answer lists: with more it couldn't be read anyway, nor sent by UDP.
	maxDebugLines = 100
	// maxText is the longest string in a TXT record.
	maxText = 255
)

// debug answers TXT _debug.S.ZONE: one record about the service, and one for each instance.
func (q *query) debug() *dns.Msg {
	backends := q.mesh.Agent.Backends(q.service)
	if backends == nil {
		return q.nxdomain() // it has gone this moment
	}
	status := q.mesh.Status()
	m := q.reply()
	q.appendText(m, fmt.Sprintf("service=%s instances=%d banned=%d revision=%d source=%s synced=%t",
		q.service, len(backends), countBanned(backends), q.mesh.Catalog.Revision(), status.Source, status.Synced))
	for i := range backends {
		if i == maxDebugLines {
			q.appendText(m, fmt.Sprintf("%d more", len(backends)-maxDebugLines))
			break
		}
		q.appendText(m, describe(&backends[i]))
	}
	return m
}

func countBanned(backends []agent.BackendInfo) int {
	count := 0
	for i := range backends {
		if backends[i].Banned != nil {
			count++
		}
	}
	return count
}

// describe is one instance in one line: 10.0.0.1:6379 up weight=100 idc=bj-a failures=0 banned=proof until=....
func describe(backend *agent.BackendInfo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s weight=%d", backend.Backend, backend.State, backend.Weight)
	if backend.IDC != "" {
		fmt.Fprintf(&b, " idc=%s", backend.IDC)
	}
	fmt.Fprintf(&b, " failures=%d", backend.Failures)
	if backend.Banned == nil {
		b.WriteString(" banned=no")
	} else {
		fmt.Fprintf(&b, " banned=%s until=%s", backend.Banned.Reason, backend.Banned.Until.UTC().Format(time.RFC3339))
	}
	return b.String()
}

func (q *query) appendText(m *dns.Msg, text string) {
	text = strings.ReplaceAll(text[:min(len(text), maxText)], `\`, `\\`) // the library unescapes
	header := dns.RR_Header{Name: q.owner, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 0}
	m.Answer = append(m.Answer, &dns.TXT{Hdr: header, Txt: []string{text}})
}
