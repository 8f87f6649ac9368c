// Package notify hands what the agent has decided over to people and platforms: a line in the log for each decision, and
// a webhook when an instance has been banned for long, or when the cap keeps a bad one in the choice. It decides nothing.
package notify
