package model

import "time"

// DefaultService returns a Service with every default filled in: the policy of a callee that has instances but no
// document, and what a document is read over.
func DefaultService(name string) *Service {
	return &Service{
		Name:        name,
		Level:       3,
		Workload:    Online,
		Protocol:    HTTP,
		Balance:     Balance{Policy: RoundRobin},
		Connections: Connections{KeepAlive: true, MaxIdlePerInstance: 64, IdleTimeout: seconds(60)},
		Timeouts: Timeouts{
			Normal:         TimeoutSet{Connect: milliseconds(300), Write: seconds(5), Read: seconds(5), Total: seconds(10)},
			Avalanche:      TimeoutSet{Connect: milliseconds(100), Write: seconds(1), Read: seconds(1), Total: seconds(2)},
			ClientOverride: true,
		},
		Retries: Retries{
			Normal:    RetrySet{Attempts: 2, When: []RetryWhen{WhenConnect, WhenWrite, WhenRead}},
			Avalanche: RetrySet{Attempts: 0, When: []RetryWhen{WhenConnect, WhenWrite, WhenRead}},
			Budget:    0.1,
		},
		Ban: Ban{
			Deviation:   DeviationBan{Status: true, Latency: true, Interval: seconds(1)},
			Duration:    seconds(10),
			MaxDuration: minutes(10),
			MaxRatio:    0.3,
			Probe:       Probe{Timeout: milliseconds(500)},
		},
		Fuse: Fuse{SuccessBelow: 0.8, MinOutcomes: 10, Floor: 0.01},
	}
}

// DefaultInstance returns an Instance with its defaults: weight 100, up. Its address must still be set.
func DefaultInstance() Instance { return Instance{Weight: 100, State: Up} }

func (i *Instance) setDefaults()   { *i = DefaultInstance() }
func (s *Split) setDefaults()      { *s = Split{Weight: 100} }
func (w *IDCWeight) setDefaults()  { *w = IDCWeight{Weight: 100} }
func (h *Hedge) setDefaults()      { *h = Hedge{Percentile: 0.95, Budget: 0.05} }
func (b *RequestBan) setDefaults() { *b = RequestBan{Failures: 5, Of: 10} }
func (w *Webhook) setDefaults()    { *w = Webhook{After: minutes(10)} }
func (c *Check) setDefaults()      { *c = Check{Interval: seconds(5), Type: "tcp"} }
func (d *Drop) setDefaults()       { *d = Drop{Percent: 100} }

func milliseconds(n int) Duration { return Duration(n) * Duration(time.Millisecond) }
func seconds(n int) Duration      { return Duration(n) * Duration(time.Second) }
func minutes(n int) Duration      { return Duration(n) * Duration(time.Minute) }
func hours(n int) Duration        { return Duration(n) * Duration(time.Hour) }
