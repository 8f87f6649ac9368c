// Package forward is through mode's engine for HTTP: it sends a request to an instance of its callee, and again to another
// one where that is safe. The agent decides (Begin, Pick, Done); this package only carries, and tells it what happened.
//
//   - Forwarder is the attempt loop: pick, send, tell, and pick again after a connect failure. It is what stands below
//     reverse_proxy, too.
//   - Proxy is the handler above it: it reads the x-ufc-* headers, prepares the request as a proxy must, and copies the
//     response back.
//   - wire is what the loop sends an attempt through. It knows neither retries nor health.
//
// An attempt's outcome is told where its response's body ends, not at its head: an instance that dies in the body failed,
// and a client that goes away says nothing about the instance.
//
// What comes later has its place:
//
//   - a hand-written HTTP/1.1 wire, https and h2c: further wires, chosen by Forwarder.wire from the Service.
//   - time limits and client overrides: exchange, which is the attempt's context and carries its limits already.
//   - retries after write and read failures, budget, backoff: Forwarder.again, and requestBody, which would keep what was
//     read of the body.
//   - hedging: Forwarder.try is one attempt by itself, and several may run at once; the loop would start the second one.
//   - routing and hashing by the request: Proxy.identify fills the Call.
package forward
