package mesh

import (
	"net/netip"
	"strings"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// board is what a teller needs of store.Board.
type board interface {
	Publish(service string, address netip.AddrPort, ban model.ToldBan)
	Withdraw(service string, address netip.AddrPort)
}

// neighbour is what a teller needs of agent.Agent.
type neighbour interface {
	Told(service string, address netip.AddrPort, ban *model.ToldBan)
}

// teller stands between an agent and the board of its machine. Both are set before either calls.
type teller struct {
	board board
	agent neighbour
}

// decided passes on what the agent itself found out. A ban by hand all agents know from etcd, and one that a neighbour
// told must not come back as an echo, or the two would keep it alive for ever: when either takes the place of an own one,
// that is over. While an instance is half open its ban stands for the neighbours: one agent's trials are enough.
func (t *teller) decided(decision health.Decision) {
	if !decision.Instance.IsValid() {
		return
	}
	switch decision.Kind {
	case health.Banned, health.Extended, health.Relapsed:
		if decision.Reason == health.ByNeighbour || decision.Reason == health.ByHand {
			t.board.Withdraw(decision.Service, decision.Instance)
		} else {
			t.board.Publish(decision.Service, decision.Instance, toldBan(&decision))
		}
	case health.Reopened, health.Lifted:
		t.board.Withdraw(decision.Service, decision.Instance)
	}
}

// told is the board's store.ToldFunc.
func (t *teller) told(service string, address netip.AddrPort, ban *model.ToldBan) {
	t.agent.Told(service, address, ban)
}

// toldBan writes a decision down for others. The board adds the agent.
func toldBan(decision *health.Decision) model.ToldBan {
	detail := decision.Rule
	if detail != "" && decision.Detail != "" {
		detail += ": "
	}
	return model.ToldBan{
		Reason: string(decision.Reason),
		Since:  decision.Time.Add(-decision.BannedFor),
		Until:  decision.Time.Add(decision.Duration),
		Detail: strings.TrimSpace(detail + decision.Detail),
	}
}
