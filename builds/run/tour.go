package main

import (
	"fmt"
	"io"
)

// printTour says what can be tried, in words that can be pasted into a shell.
func printTour(w io.Writer, s *settings) {
	etcd := ""
	if s.Etcd.Number != 2379 {
		etcd = "UFC_ETCD=http://" + s.Etcd.address() + " "
	}
	fmt.Fprintf(w, `
UFC runs on this machine. Try, in another terminal:

  A request by the name of a service, through the agent:
    curl -H 'x-ufc-service-name: hello' http://%[1]s/

  The same service by DNS, for programs that speak anything else:
    dig @127.0.0.1 -p %[2]d hello.ufc.internal SRV +noall +answer +additional

  A backend by HTTP, and how it went:
    curl 'http://%[3]s/bypass?command=get&service=hello'
    curl -i 'http://%[3]s/bypass?command=callback' -d service=hello -d backend=%[4]s -d result=ok

  The configuration, and the numbers:
    %[5]sbin/caddy ufc get instances hello
    curl -s http://%[6]s/metrics | grep ^ufc_
    curl -s http://%[7]s/metrics | grep ^ufc_

Ctrl-C stops everything.
`, s.Agent.address(), s.DNS.Number, s.Callback.address(), s.Demo.address(), etcd, s.Admin.address(), s.Metrics.address())
}
