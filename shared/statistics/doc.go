// Package statistics is the arithmetic that health, fuse and agent share: one significance test, and the buckets of a latency
// histogram. It has no clock, no lock and no policy.
package statistics
