package model

import "time"

// Agent is what an agent tells of itself to those who watch over the mesh: as of Written. It is one key of etcd, agents/<id>,
// under the agent's lease.
type Agent struct {
	// Host is the name of its machine.
	Host string `json:"host"`
	// IDC is the physical data centre that it runs in. Empty: unknown.
	IDC string `json:"idc,omitempty"`
	// Face is the program that it is a part of: caddy or coredns.
	Face string `json:"face,omitempty"`
	// Version is that of its build.
	Version string `json:"version,omitempty"`
	// Synced tells whether it was in step with etcd.
	Synced bool `json:"synced"`
	// Revision is etcd's, that its configuration was at. 0: it had none.
	Revision int64 `json:"revision"`
	// Age is the time since its configuration was known to be what etcd has. 0: never, or just now.
	Age Duration `json:"age"`
	// Services and Instances are how many it held.
	Services  int `json:"services"`
	Instances int `json:"instances"`
	// Started is when its process attached to the mesh. Zero: unknown.
	Started time.Time `json:"started,omitzero"`
	// Written is when it wrote this, by its own clock.
	Written time.Time `json:"written"`
}

// maxAgent is the largest value of an agent: four texts, every byte of them escaped.
const maxAgent = 32 << 10

// ParseAgent reads the value of an agent's key. Warnings and errors are as with ParseService.
func ParseAgent(id string, value []byte) (*Agent, []Problem, error) {
	agent := &Agent{}
	warnings, err := parse(parser{
		document: "agent " + quote(id), kind: KindAgent, limit: maxAgent, out: agent, check: agent.check,
	}, value)
	if err != nil {
		return nil, warnings, err
	}
	return agent, warnings, nil
}

// JSON returns the value of the agent's key in etcd.
func (a *Agent) JSON() []byte { return mustJSON(a) }

// Tidy returns the agent as it can be written: texts cut to their limits, control characters replaced by spaces, times in UTC
// and in whole milliseconds.
func (a Agent) Tidy() Agent {
	a.Host, a.IDC, a.Face, a.Version = tidy(a.Host), tidy(a.IDC), tidy(a.Face), tidy(a.Version)
	a.Age = Duration(a.Age.Std().Truncate(time.Millisecond))
	a.Started, a.Written = a.Started.UTC().Truncate(time.Millisecond), a.Written.UTC().Truncate(time.Millisecond)
	return a
}

// check validates a decoded Agent.
func (a *Agent) check(c checker) {
	for path, text := range map[string]string{"host": a.Host, "idc": a.IDC, "face": a.Face, "version": a.Version} {
		c.must(path, checkText(text, maxText))
	}
	if a.Written.IsZero() {
		c.fail("written", missing)
	}
	if a.Age < 0 {
		c.fail("age", "%v is negative", a.Age)
	}
	if a.Revision < 0 {
		c.fail("revision", "%d is negative", a.Revision)
	}
}
