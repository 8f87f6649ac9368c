package scenarios

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// What the network and the defaults of a Service make of an attempt that gets no answer.
const (
	roundTrip      = 300 * time.Microsecond // to connect, and to be refused
	connectTimeout = 300 * time.Millisecond
	readTimeout    = 5 * time.Second
	callTimeout    = 10 * time.Second
)

// ailment is what is wrong with an instance.
type ailment int

// The ailments.
const (
	refuses ailment = iota // the process is dead: its port refuses
	silent                 // the machine is gone: nothing comes back, connects time out
	hangs                  // the process is stopped: the kernel connects, nobody answers
	fails                  // breaks off a share of the requests
	answers                // answers a share of the requests with a status
	slows                  // takes so many times as long
)

// fault is an ailment for a while. It is a function of time rather than a state that events change, so that probes, which
// run beside the world, may look at it.
type fault struct {
	ailment
	from, to time.Duration // since the onset; to 0: for good
	// down and up make it flap: from on it ails for the first, is well for the second, and so on. 0: it ails throughout.
	down, up time.Duration
	share    float64 // of the requests; for fails and answers
	code     int     // for answers
	factor   float64 // for slows
}

func (f *fault) at(since time.Duration) bool {
	if since < f.from || f.to > 0 && since >= f.to {
		return false
	}
	return f.down == 0 || (since-f.from)%(f.down+f.up) < f.down
}

// instance is a modelled instance. Its latency is lognormal.
type instance struct {
	idc    string
	labels map[string]string
	median time.Duration // default 20 ms
	// answered is a status that a share of the answers have by nature: no fault.
	answered answered
	faults   []fault
}

// answered is a share of answers with a status.
type answered struct {
	share float64
	code  int
}

const (
	usualMedian = 20 * time.Millisecond
	sigma       = 0.5 // of ln(latency): the 99th percentile is 3.2 times the median
)

// addressOf returns the address of the nth instance.
func addressOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 8080)
}

// numberOf is the inverse of addressOf.
func numberOf(address netip.AddrPort) int {
	octets := address.Addr().As4()
	return int(octets[2])<<8 | int(octets[3])
}

// ails returns the fault in force.
func (i *instance) ails(since time.Duration) *fault {
	for n := range i.faults {
		if i.faults[n].at(since) {
			return &i.faults[n]
		}
	}
	return nil
}

// faulty tells whether anything ever is wrong with it.
func (i *instance) faulty() bool { return len(i.faults) > 0 }

// outcome is what came of an attempt.
type outcome struct {
	result health.Result
	code   int // of an answer
	took   time.Duration
}

func answer(code int, took time.Duration) outcome { return outcome{health.OK, code, took} }

// good tells whether the caller can use what it got.
func (o *outcome) good() bool { return o.result == health.OK && o.code < 400 }

// draws are the random numbers of one attempt. They are drawn alike whatever becomes of it, from a source that the seed,
// the request's and the attempt's number determine, so that all guards see the same traffic.
type draws struct {
	fault, error, kind, code float64
	latency                  float64 // standard normal
}

// drawer draws for all attempts of a world.
type drawer struct {
	seed   uint64
	source *rand.PCG
	random *rand.Rand // over source
}

func newDrawer(seed uint64) drawer {
	source := &rand.PCG{}
	return drawer{mix(seed), source, rand.New(source)}
}

// of returns the random numbers of an attempt, until those of another one are asked for.
func (d *drawer) of(request uint64, attempt int) *rand.Rand {
	d.source.Seed(d.seed, mix(request<<4|uint64(attempt)))
	return d.random
}

func (d *drawer) draw(request uint64, attempt int) draws {
	d.of(request, attempt)
	return draws{d.random.Float64(), d.random.Float64(), d.random.Float64(), d.random.Float64(), d.random.NormFloat64()}
}

// mix spreads neighbouring numbers over all 64 bits (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (i *instance) latency(d *draws) time.Duration {
	median := i.median
	if median == 0 {
		median = usualMedian
	}
	return time.Duration(float64(median) * math.Exp(sigma*d.latency))
}

// respond is what an instance does with a request, but for the errors that all have in common.
func (i *instance) respond(since time.Duration, d *draws) outcome {
	took := i.latency(d)
	ailing := i.ails(since)
	if ailing == nil {
		if d.fault < i.answered.share {
			return answer(i.answered.code, took)
		}
		return answer(200, took)
	}
	switch {
	case ailing.ailment == refuses:
		return outcome{result: health.ConnectError, took: roundTrip}
	case ailing.ailment == silent:
		return outcome{result: health.ConnectTimeout, took: connectTimeout}
	case ailing.ailment == hangs:
		return outcome{result: health.ReadTimeout, took: readTimeout}
	case ailing.ailment == slows:
		return answer(200, time.Duration(float64(took)*ailing.factor))
	case d.fault >= ailing.share:
		return answer(200, took)
	case ailing.ailment == fails:
		return outcome{result: health.Reset, took: took}
	default:
		return answer(ailing.code, took)
	}
}
