// Package health judges instances by the outcomes of the attempts on them, and decides who is banned and when he comes
// back. It knows neither callers nor configuration sources: the agent hands it outcomes and policies, and is told when a
// verdict changes. All callers' outcomes of one callee meet in one Instance.
//
// In force are the request ban (M of the last N outcomes), proof (a refused connection whose probe fails too), a fixed
// duration, and the probe before the return. The slow start after it, and what bad codes cost, are shares of an instance's
// weight: package balance keeps them. The rules to come have their place: the sequential test replaces Instance.shift's
// count of bits; deviation is a timer of the Monitor over per-caller windows; doubling and half open are further states
// between banned and up, in ban.go.
package health
