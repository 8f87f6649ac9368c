package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// settings are what the environment says. The defaults are those of xcaddy.Caddyfile and the Corefile, which read the same
// variables; all are handed on, so that the three can't disagree.
type settings struct {
	Data     string // UFC_DATA: etcd's files, snapshots, logs
	Agent    port
	Admin    port
	Etcd     port
	DNS      port
	Callback port
	Metrics  port
	Ready    port
	Demo     port // of the first demo server; the others keep their distance to it
}

// port is one that something will listen on, on 127.0.0.1.
type port struct {
	Number   int
	Variable string // which changes it
	Use      string
	UDP      bool // as well as TCP
}

func (p port) String() string { return strconv.Itoa(p.Number) }

func (p port) address() string { return net.JoinHostPort("127.0.0.1", p.String()) }

// readSettings reads the environment. A port that is none is an error.
func readSettings() (*settings, error) {
	s := &settings{
		Data:     "./data",
		Agent:    port{Number: 8888, Variable: "UFC_AGENT_PORT", Use: "the agent"},
		Admin:    port{Number: 2019, Variable: "UFC_ADMIN_PORT", Use: "Caddy's admin API"},
		Etcd:     port{Number: 2379, Variable: "UFC_ETCD_PORT", Use: "etcd"},
		DNS:      port{Number: 1053, Variable: "UFC_DNS_PORT", Use: "the DNS", UDP: true},
		Callback: port{Number: 8889, Variable: "UFC_CALLBACK_PORT", Use: "the DNS's callback"},
		Metrics:  port{Number: 9153, Variable: "UFC_DNS_METRICS_PORT", Use: "the DNS's metrics"},
		Ready:    port{Number: 8181, Variable: "UFC_READY_PORT", Use: "the DNS's readiness"},
		Demo:     port{Number: 9101, Variable: "UFC_DEMO_PORT", Use: "the first demo server"},
	}
	if data := os.Getenv("UFC_DATA"); data != "" {
		s.Data = data
	}
	for _, p := range []*port{&s.Agent, &s.Admin, &s.Etcd, &s.DNS, &s.Callback, &s.Metrics, &s.Ready, &s.Demo} {
		value := os.Getenv(p.Variable)
		if value == "" {
			continue
		}
		number, err := strconv.Atoi(value)
		if err != nil || number < 1 || number > 65535 {
			return nil, fmt.Errorf("%s: %q is not a port between 1 and 65535", p.Variable, value)
		}
		p.Number = number
	}
	return s, nil
}

// ports are those that the children listen on.
func (s *settings) ports() []port {
	return []port{s.Agent, s.Admin, s.Etcd, s.DNS, s.Callback, s.Metrics, s.Ready}
}

// environment is what the children get: this program's own, and every setting.
func (s *settings) environment() []string {
	env := append(os.Environ(),
		"UFC_DATA="+s.Data,
		"UFC_ETCD=http://"+s.Etcd.address(),
		// Caddy keeps its instance id and last configuration in the home folder otherwise.
		"XDG_CONFIG_HOME="+s.Data,
		"XDG_DATA_HOME="+s.Data,
	)
	for _, p := range s.ports() {
		env = append(env, p.Variable+"="+p.String())
	}
	return env
}

// checkPorts tells which ports are taken, all at once, before anything is started. It holds all of them until the last is
// looked at, and so finds a number that is given twice too.
func checkPorts(ports []port) error {
	var taken []error
	for _, p := range ports {
		release, err := listen(p)
		if err != nil {
			taken = append(taken, fmt.Errorf("port %d, for %s, is taken (%w): stop what listens there, or choose another: %s=%d make run",
				p.Number, p.Use, err, p.Variable, another(p.Number)))
			continue
		}
		defer release()
	}
	return errors.Join(taken...)
}

func listen(p port) (release func(), err error) {
	tcp, err := net.Listen("tcp", p.address())
	if err != nil {
		return nil, reason(err)
	}
	if !p.UDP {
		return func() { tcp.Close() }, nil
	}
	udp, err := net.ListenPacket("udp", p.address())
	if err != nil {
		tcp.Close()
		return nil, reason(err)
	}
	return func() { tcp.Close(); udp.Close() }, nil
}

// reason is the operating system's part of err, without the address that the message has already.
func reason(err error) error {
	var syscallError *os.SyscallError
	if errors.As(err, &syscallError) {
		return syscallError.Err
	}
	return err
}

// another is a port to propose instead.
func another(number int) int {
	if number+10000 > 65535 {
		return number - 10000
	}
	return number + 10000
}
