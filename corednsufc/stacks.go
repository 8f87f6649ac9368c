package corednsufc

import "sync"

// CoreDNS answers each question in a new goroutine. Go starts one with a stack of 2 KiB, which is then copied twice on the way to the
// answer, frame by frame: a third of what an answer takes from there, 0.6 µs of 1.8 for an A record (BenchmarkNewGoroutines). But it
// starts them with more if that is what goroutines use on average, by what the garbage collector has seen last. Most of this process's
// wait for something, near the top of their stacks, so that the average says little of those that answer. So some wait here as far down
// as those get.
const (
	// deepStacks is how many wait for each block that runs: 1 MiB of stacks. 300 idle connections to the callback listener beside them
	// change nothing, 350 halve what stacks begin with.
	deepStacks = 128
	// deepFrame is just under the 8 KiB that answers need, less what Go keeps free below, and the frames around it.
	deepFrame = 6500
)

// holdStacks has goroutines wait far down their stacks, until the function that it returns is called.
func holdStacks() (release func()) {
	stop := make(chan struct{})
	var waiting sync.WaitGroup
	for range deepStacks {
		waiting.Go(func() { waitDeep(stop) })
	}
	return func() {
		close(stop)
		waiting.Wait()
	}
}

// waitDeep waits with a frame of deepFrame bytes. What it returns keeps the compiler from doing without them.
//
//go:noinline
func waitDeep(stop <-chan struct{}) byte {
	var frame [deepFrame]byte
	<-stop
	return frame[len(stop)]
}
