package corednsufc

import "sync"

// CoreDNS answers each question in a new goroutine. Go starts one with a stack of 2 KiB, which is then copied twice on the way to the
// answer, frame by frame: 4 µs of 26, as much as the whole choice. But it starts them with more if that is what goroutines use on
// average, by what the garbage collector has seen last. Most of this process's wait for something, near the top of their stacks, so
// that the average says little of those that answer. So some wait here as far down as those get.
const (
	// deepStacks is how many wait here: 1 MiB. They outweigh about twice as many others.
	deepStacks = 128
	// deepFrames of 512 bytes and a bit are just under the 8 KiB that answers need, less what Go keeps free below.
	deepFrames = 12
)

// stacks are held by the blocks that run.
var stacks stackPool

type stackPool struct {
	mu      sync.Mutex
	users   int
	stop    chan struct{} // closed when the last user is gone
	waiting sync.WaitGroup
}

func (p *stackPool) acquire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users++; p.users > 1 {
		return
	}
	p.stop = make(chan struct{})
	for range deepStacks {
		p.waiting.Go(func() { waitDeep(deepFrames, p.stop) })
	}
}

func (p *stackPool) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.users == 0 {
		close(p.stop)
		p.waiting.Wait()
	}
}

// waitDeep waits so many frames further down. What it returns keeps the compiler from doing without them.
//
//go:noinline
func waitDeep(frames int, stop <-chan struct{}) byte {
	var frame [512]byte
	if frames == 0 {
		<-stop
		return 0
	}
	frame[frames] = waitDeep(frames-1, stop)
	return frame[frames-1]
}
