package store

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A change of a service of 200,000 instances takes the sink a tenth of a second. If such a service is written key by key,
// one change after the other would take it minutes, in which nobody else's changes were seen. So the follower waits as long
// as the last change took, and takes what comes meanwhile together: half of the time at most is spent on changes, and each
// is seen after about three times as long as one takes. Where changes take no time, as nearly always, nothing waits.
const (
	leastGather = 5 * time.Millisecond // under it, nothing is gathered
	mostGather  = time.Second
	mostEvents  = 100_000 // gathered at once
)

// gather adds to a response the events of those that follow it. The error is why the watch ended meanwhile.
func (f *Follower) gather(response *clientv3.WatchResponse, responses clientv3.WatchChan) error {
	if f.took < leastGather || len(response.Events) == 0 {
		return nil
	}
	enough := time.NewTimer(min(f.took, mostGather))
	defer enough.Stop()
	for len(response.Events) < mostEvents {
		select {
		case <-enough.C:
			return nil
		case next, ok := <-responses:
			if !ok {
				return errSilent
			}
			if err := next.Err(); err != nil {
				return err
			}
			response.Events = append(response.Events, next.Events...) // none: a sign of life, which these are, too
		}
	}
	return nil
}
