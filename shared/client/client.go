package client

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"time"
)

const (
	// DefaultAgent is where the agent of the machine listens, for both modes.
	DefaultAgent = "127.0.0.1:8888"
	// DefaultConnectTimeout is 300 ms, as services have it for their instances: an agent is near, and answers from memory.
	DefaultConnectTimeout = 300 * time.Millisecond
	// DefaultMaxReports is how many reports wait at most. At 100 connects a second they wait for 100 s.
	DefaultMaxReports = 10_000
)

const (
	// lastChance is how long an agent may take to answer when there is no other one to ask, unless the context ends before.
	lastChance = 5 * time.Second
	// maxIdle is how many connections to one agent are kept. They cost two goroutines each, and are on this machine.
	maxIdle = 64
	// idleTimeout is shorter than Caddy's and CoreDNS's own, so that the agent is seldom the one to close.
	idleTimeout = 90 * time.Second
)

// Config is the settings of a Client. The zero value is of use: the local agent, without backups. No setting is read from
// anywhere else, such as the environment.
type Config struct {
	// Caller is the name of the service that the program is, by which callees route, admit and count it. Empty: unknown.
	Caller string

	// Agents are the agents' addresses (host:port), that of this machine first, then its backups in the order in which
	// they are asked. Backups must listen on an address that this machine reaches. Default: DefaultAgent alone.
	Agents []string

	// BypassAgents are who is asked for instances by DialContext, where that differs from Agents: the DNS's callback
	// listener (127.0.0.1:8889) hands out instances, too, but forwards nothing. Default: Agents.
	BypassAgents []string

	// ConnectTimeout is how long a connect to an agent may take, and the whole of a hand-out as long as there is another
	// agent to ask. Default: DefaultConnectTimeout. Don't set it lower than the longest pause of this machine's processes.
	ConnectTimeout time.Duration

	// MaxReports bounds the reports that wait to be sent; beyond it they are dropped, and Stats tells. Default:
	// DefaultMaxReports. They are sent ten times a second, so that it is for an agent that doesn't answer.
	MaxReports int
}

// Client reaches services of the mesh by name. It is used by many goroutines at once. A program needs one, and closes it at its
// end.
type Client struct {
	caller    string
	through   *agents
	bypass    *agents
	timeout   time.Duration // of a connect to an agent
	transport *http.Transport
	reports   *reporter

	dial dialFunc // to instances, and to addresses that are no service's
}

// dialFunc is the DialContext of a net.Dialer; tests have another one.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// New returns a client. It connects to nobody yet; a wrong address of an agent shows at the first use.
func New(config Config) *Client {
	return newClient(config.withDefaults(), new(net.Dialer).DialContext)
}

// withDefaults fills in what isn't set.
func (c Config) withDefaults() Config {
	if len(c.Agents) == 0 {
		c.Agents = []string{DefaultAgent}
	}
	c.ConnectTimeout = cmp.Or(max(c.ConnectTimeout, 0), DefaultConnectTimeout)
	c.MaxReports = cmp.Or(max(c.MaxReports, 0), DefaultMaxReports)
	return c
}

func newClient(config Config, dial dialFunc) *Client {
	c := &Client{caller: config.Caller, timeout: config.ConnectTimeout, dial: dial}
	c.transport = &http.Transport{
		// Nothing of the environment, and nothing of the transport's own that the program didn't ask for.
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, c.timeout)
			defer cancel()
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, &unreachable{address, err}
			}
			return conn, nil
		},
		MaxIdleConnsPerHost:   maxIdle,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: time.Second,
	}
	c.through = newAgents(config.Agents, c.probe)
	c.bypass = c.through
	if len(config.BypassAgents) > 0 {
		c.bypass = newAgents(config.BypassAgents, c.probe)
	}
	c.reports = newReporter(c.post, config.MaxReports)
	return c
}

// Close sends the reports that wait, for a second at most, and closes idle connections to agents. Connections to instances
// stay open. The client can still be used after it, but reports nothing.
func (c *Client) Close() error {
	c.reports.close()
	c.through.close()
	c.bypass.close()
	c.transport.CloseIdleConnections()
	return nil
}

// CloseIdleConnections closes connections to agents that are not in use. http.Client has a method that calls it.
func (c *Client) CloseIdleConnections() { c.transport.CloseIdleConnections() }

// Stats is what a client has counted since its start.
type Stats struct {
	Reported uint64 // reports that an agent has taken
	Dropped  uint64 // reports that were lost: too many waited, or the agent that they were for was gone
}

// Stats returns what the client has counted.
func (c *Client) Stats() Stats { return c.reports.stats() }
