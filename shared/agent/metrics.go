package agent

import (
	"cmp"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/route"
)

// durationBuckets are the classic buckets, in seconds, from a cache's answer to the default total timeout.
var durationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newDurationHistogram() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                           "ufc_request_duration_seconds",
		Help:                           "Duration of calls, retries included.",
		Buckets:                        durationBuckets,
		NativeHistogramBucketFactor:    1.1,
		NativeHistogramMaxBucketNumber: 100,
	}, []string{"caller", "callee"})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	requestsDesc       = desc("ufc_requests_total", "Calls by the status that the caller got and the IDC of the instance.", "caller", "callee", "idc", "code")
	attemptsDesc       = desc("ufc_attempts_total", "Attempts on instances by result.", "callee", "result")
	retriesDesc        = desc("ufc_retries_total", "Attempts after the first.", "callee")
	hedgesDesc         = desc("ufc_hedges_total", "Second attempts beside a late first one: won, lost (the first one was quicker) or failed.", "callee", "outcome")
	refusedDesc        = desc("ufc_refused_total", "Calls that UFC itself refused, by reason.", "caller", "callee", "reason")
	bansDesc           = desc("ufc_bans_total", "Bans of instances by reason.", "callee", "reason")
	cappedDesc         = desc("ufc_capped_total", "Bans that the cap didn't allow, by reason; of an instance at most one a minute.", "callee", "reason")
	bannedDesc         = desc("ufc_banned_instances", "Instances banned now.", "callee")
	panicDesc          = desc("ufc_panic", "1 while under half of the serving instances are up, so that banned ones may be chosen too.", "callee")
	admittedDesc       = desc("ufc_fuse_admitted_ratio", "Share of the requests of the last two seconds that the fuse admitted.", "callee")
	avalancheDesc      = desc("ufc_avalanche", "1 while the fuse limits what is sent to the callee.", "callee")
	callbacksDesc      = desc("ufc_callbacks_total", "Results reported by programs.", "callee", "result")
	unreportedDesc     = desc("ufc_unreported_ratio", "Share of the hand-outs of the last minute that programs haven't reported.", "callee")
	configRevisionDesc = desc("ufc_config_revision", "The revision of etcd that the configuration stands at.")
	configAgeDesc      = desc("ufc_config_age_seconds", "Time since etcd last said that the configuration is current.")
	configRejectedDesc = desc("ufc_config_rejected_total", "Configuration records refused.", "kind")
	servicesDesc       = desc("ufc_services", "Services known.")
	instancesDesc      = desc("ufc_instances", "Instances known.")
)

type callbackKey struct{ callee, result string }

// CountCallback counts a result that a program reported; the result may also be why it was not taken.
func (a *Agent) CountCallback(callee, result string) {
	if a.service(callee) == nil {
		callee = unknown
	}
	a.callbacks.add(callbackKey{callee, result})
}

// Describe implements prometheus.Collector.
func (a *Agent) Describe(descs chan<- *prometheus.Desc) {
	a.duration.Describe(descs)
	for _, d := range []*prometheus.Desc{
		requestsDesc, attemptsDesc, retriesDesc, hedgesDesc, refusedDesc, bansDesc, cappedDesc, bannedDesc, panicDesc, admittedDesc, avalancheDesc, callbacksDesc,
		unreportedDesc,
		configRevisionDesc, configAgeDesc, configRejectedDesc, servicesDesc, instancesDesc,
	} {
		descs <- d
	}
}

// emitter writes constant metrics into a collection.
type emitter chan<- prometheus.Metric

func (e emitter) counter(d *prometheus.Desc, value uint64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func (e emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

// Collect implements prometheus.Collector. Callees that nobody has called yet are left out.
func (a *Agent) Collect(metrics chan<- prometheus.Metric) {
	a.duration.Collect(metrics)
	emit := emitter(metrics)
	a.strangers.collect(emit, unknown)
	for _, s := range *a.services.Load() {
		s.collect(emit)
	}
	for key, count := range a.callbacks.all() {
		emit.counter(callbacksDesc, count.Load(), key.callee, key.result)
	}
	emit.gauge(configRevisionDesc, float64(a.catalog.Revision()))
	if a.catalog.Synced() {
		emit.gauge(configAgeDesc, a.catalog.Age().Seconds())
	}
	for kind, count := range a.catalog.RejectedTotals() {
		emit.counter(configRejectedDesc, count, cmp.Or(string(kind), "unknown")) // of keys that are none of ours
	}
	services, instances := a.catalog.Counts()
	emit.gauge(servicesDesc, float64(services))
	emit.gauge(instancesDesc, float64(instances))
}

func (s *service) collect(emit emitter) {
	lines := s.lines.all()
	if len(lines) == 0 {
		return
	}
	now := s.awake()
	for _, l := range lines {
		l.collect(emit, s.name)
	}
	for result, count := range s.health.Outcomes() {
		if count > 0 {
			emit.counter(attemptsDesc, count, s.name, health.Result(result).String())
		}
	}
	for reason, count := range s.bans.all() {
		emit.counter(bansDesc, count.Load(), s.name, string(reason))
	}
	for reason, count := range s.capped.all() {
		emit.counter(cappedDesc, count.Load(), s.name, string(reason))
	}
	emit.counter(retriesDesc, s.retries.Load(), s.name)
	s.hedging.collect(emit, s.name)
	emit.gauge(bannedDesc, float64(now.banned()), s.name)
	panicking := 0.0
	if now.panicking(s.agent.place.Load().idcs) {
		panicking = 1
	}
	emit.gauge(panicDesc, panicking, s.name)
	s.collectFuse(emit)
	if unreported, known := s.reporting.ratio(s.agent.now()); known {
		emit.gauge(unreportedDesc, unreported, s.name)
	}
}

func (l *line) collect(emit emitter, callee string) {
	for key, count := range l.requests.all() {
		emit.counter(requestsDesc, sum(count), l.caller, callee, key.idc, strconv.Itoa(key.code))
	}
	for reason, count := range l.refused.all() {
		emit.counter(refusedDesc, count.Load(), l.caller, callee, reason)
	}
}

// banned counts the instances that are banned now, or half open.
func (st *state) banned() int {
	count := 0
	for _, i := range st.instances {
		if i.pulse.State() != health.Up || st.byHand[i.Address] != nil {
			count++
		}
	}
	return count
}

// panicking tells whether under half of the serving instances are up, so that banned ones may be chosen too.
func (st *state) panicking(idcs *route.IDCs) bool {
	serving, left := 0, 0
	for _, i := range st.instances {
		if st.byHand.leave(i.Instance, idcs) {
			serving++
			if i.pulse.State() == health.Up {
				left++
			}
		}
	}
	return health.Under(left, serving)
}

// Interface guard.
var _ prometheus.Collector = (*Agent)(nil)
