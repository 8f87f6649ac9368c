// Package client lets Go programs use the mesh as they are: it needs the standard library only, and nothing of the agent.
//
// A Client reaches services in both modes:
//
//   - Through mode: a Client is an http.RoundTripper. A request to http://pcs-upload/path goes to the agent of this machine,
//     which finds the instance, retries and bans (through.go).
//   - Bypass mode: DialContext asks an agent for an instance of the service that the address names, connects to it, and
//     reports what came of it (dial.go, conn.go). It has the form that clients of Redis, MySQL, PostgreSQL, gRPC and others
//     take.
//
// Where the local agent is dead, backup agents are asked instead, until it lives again (agents.go).
//
// # What a connection reports
//
// A hand-out can be reported once. A connect that fails is reported at once. One that succeeds is reported after the
// connection's first exchange, since a server that takes connections and then hangs or resets them is no better than one that
// refuses them:
//
//	first byte received                        ok
//	closed by the instance before it           read_error, or reset; nothing, if the Read took a second or more and the program
//	                                           had written nothing: the instance ends what is not used
//	the program's read deadline passed         read_timeout, if the Read took as long as the callee's time limit for reads, or a
//	                                           second; else nothing yet: that the program is in a hurry is no failure of the instance
//	a write before it failed                   write_error, write_timeout (likewise), or reset
//	closed by the program without a Read,
//	or nothing came for 30 s                   ok: it did connect, and perhaps the protocol is silent; nothing, if an answer is
//	                                           overdue by the callee's time limit for reads
//	closed by the program during its Read      read_timeout, if the Read took as long as the callee's time limit for reads;
//	                                           else nothing: the program was no longer interested
//
// The latency is the time that the connect took, and the time from the first Read, or from the last Write if that came later,
// to the first byte. What happens to a connection later is not reported: the program's next connection tells it. A dial that
// ends with its context, and one that fails for want of something on this machine, say nothing about the instance.
package client
