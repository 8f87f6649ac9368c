// Package forward is through mode's engine for HTTP: it sends a request to an instance of its callee, and again to another
// one where that is safe. The agent decides (Begin, Pick, Done); this package only carries, and tells it what happened.
//
//   - Forwarder is the attempt loop (delivery.go): pick, send, tell, and pick again where that is safe. replay keeps the
//     request's body for it, up to 64 KiB; race.go makes the second attempt beside one that is late. It is what stands
//     below reverse_proxy, too.
//   - Proxy is the handler above it: it reads the x-ufc-* headers, prepares the request as a proxy must, and copies the
//     response back.
//   - wire is what the loop sends an attempt through: direct for plain HTTP/1.1, on the calling goroutine, and standard for
//     https, h2c and upgrades, over the standard library's transport. It knows neither retries nor health, and keeps the
//     attempt's time limits. Forwarder.wire chooses it from the Service.
//
// An attempt's outcome is told where its response's body ends, not at its head: an instance that dies in the body failed,
// and a client that goes away says nothing about the instance.
//
// The fuse refuses by Begin, Pick and Hedge, as any refusal. The mark that asks callee and caller to leave out optional work
// (x-ufc-degrade) is set by delivery.address and cleanResponse, and never passed on: what a program copies there is about
// another callee.
package forward
