// Package notify tells people and platforms what package health has decided: by webhooks, and by log lines. It decides
// nothing, and holds nobody up: a decision is taken under a lock, and delivered by goroutines of its own.
//
// Webhooks is told every decision, and POSTs JSON to the ban.webhook.url of a Service:
//
//	{"event": "long_ban", "id": "…", "time": "…", "agent": "…", "host": "…", "idc": "…", "service": "…", "instances": [
//	  {"instance": "10.0.0.1:80", "reason": "proof", "since": "…", "banned_for_seconds": 600,
//	   "rule": "…", "inputs": {…}, "value": 1, "threshold": 1, "detail": "…"}]}
//
// When. An instance is told of once it has been banned for ban.webhook.after altogether, without a return worth the name
// (health.Decision.BannedFor), be there a decision at that moment or not, and not if it came back before. It is told of
// once; if it comes back and is banned again before it has recovered, again when its bans have lasted for another
// ban.webhook.after. Of a neighbour's ban he tells himself. "since" is when the last ban began. The event "cap_reached" has,
// at once, the instances that would have been banned, had not too many been already; each is told of again after ten
// minutes without.
//
// How often. A service's messages are at least a minute apart. What comes in between waits, and makes one message, with
// one entry per instance, of which the newest stands. An instance that came back while it waited has "returned", the time.
//
// Delivery is at least once, and exactly once for a receiver that keeps the header Idempotency-Key (or "id"): it is the
// same at every try of a message. 2xx is success. A 4xx other than 408, 425 and 429 is logged as an error and the message
// given up, since a wrong URL doesn't get better. All else, redirects too, which are not followed, is tried again, for as
// long as it takes: after 1 s at first, doubled to 5 minutes, of which up to a half is left off by lot, or after the
// answer's Retry-After, but no later than 10 minutes. What waits is in memory alone: the end of the process loses it, as it
// does the bans.
//
// The proxy of the environment is used (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), as operators expect of what goes out of their
// network. A connection may take 3 s, TLS another 3 s, a try 10 s in all. User and password in the URL become basic
// authentication. Logs name the URL's scheme and host alone: the rest of it is a secret with many receivers.
package notify
