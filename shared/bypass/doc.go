// Package bypass is the HTTP side of bypass mode, the same handler in both binaries: a program gets a backend's address,
// talks to that backend itself, in whatever protocol, and calls back with the result, from which the agent learns as it
// does from its own attempts. Debug queries into the agent's memory are answered here too.
package bypass
