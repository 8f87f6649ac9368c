package scenarios

import (
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// callee is the name of the modelled service.
const callee = "shop"

// setup is a scenario to be run with a seed. Times of faults count from the onset, at which the service has been healthy for
// warm, and a part of warmSpread more that depends on the seed: else each onset would fall upon the same moment between two
// judgements.
type setup struct {
	instances []instance
	agents    int // default 1; each judges by itself, and has all of the sources
	idc       string
	sources   []source
	warm      time.Duration
	after     time.Duration // from the onset to the end

	background background
	blip       time.Duration // from the onset on, the network loses everything

	change   func(*model.Service) // of the callee's document
	topology *model.Topology
	groups   []group // for comparators, what routes and topology come to. Default: one of all

	step   time.Duration // events are run at the end of their step; 0: each at its own moment. Larger is faster
	bin    time.Duration // of the ledger's series; default 1 s
	sample bool          // keep all latencies
	stop   func(*ledger) bool
}

const warmSpread = 5 * time.Second

// source is callers' requests, by a Poisson process.
type source struct {
	rate     float64       // a second, of each agent
	users    int           // each request is one of so many users'; 0: requests have no key
	user     string        // the only one
	from, to time.Duration // since the onset; both 0: always
	code     int           // what its requests get as an answer, whoever answers: the fault is theirs. 0: the instance's own
}

// group is a set of instances that get a share of the requests, and spill to the next.
type group struct {
	weight  float64
	members []int
}

// background is errors that all instances have in common.
type background struct {
	failures float64 // share of attempts that fail: a quarter each refused, timed out to connect, reset, timed out to read
	statuses float64 // share of attempts that are answered with one of codes
	codes    []int
	// bursts gives half of the errors to bursts of 3 s on average, in a twentieth of the time, of the whole service: in a
	// burst there are ten times as many, outside of it about half as many.
	bursts bool
}

const (
	burstLength = 3 * time.Second
	burstGap    = 57 * time.Second
	inBurst     = 10.0
	outOfBurst  = 0.5 / 0.95
)

// healthy returns n instances with nothing wrong.
func healthy(n int) []instance { return make([]instance, n) }

// oneOf returns n instances of which the last has a fault.
func oneOf(n int, f fault) []instance {
	all := healthy(n)
	all[n-1].faults = []fault{f}
	return all
}

// records are the documents of the setup.
func (s *setup) records() []model.Record {
	service := model.DefaultService(callee)
	if s.change != nil {
		s.change(service)
	}
	records := []model.Record{{Kind: model.KindService, Name: callee, Service: service}}
	for n, modelled := range s.instances {
		instance := model.DefaultInstance()
		instance.Address, instance.IDC, instance.Labels = addressOf(n), modelled.idc, modelled.labels
		records = append(records, model.Record{
			Kind: model.KindInstances, Name: callee, Address: instance.Address.String(), Instance: &instance,
		})
	}
	if s.topology != nil {
		records = append(records, model.Record{Kind: model.KindTopology, Topology: s.topology})
	}
	return records
}
