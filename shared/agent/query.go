package agent

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// ErrSelector is Query's error for a selector that selects nothing.
var ErrSelector = errors.New("nothing is selected")

// Query answers what the agent remembers, for people who debug: request_info^SERVICE, backend_info^SERVICE[^BACKEND],
// ban_info[^SERVICE], fuse_info[^SERVICE], explain^SERVICE[^INSTANCE] and config_info[^SERVICE], split at the ^. The answer marshals to JSON.
func (a *Agent) Query(selector []string) (any, error) {
	if len(selector) == 0 {
		return nil, fmt.Errorf("%w: empty path", ErrSelector)
	}
	first, args := selector[0], selector[1:]
	most := 1
	var answer func([]string) (any, error)
	switch first {
	case "request_info":
		answer = a.requestInfo
	case "backend_info":
		answer, most = a.backendInfo, 2
	case "ban_info":
		answer = a.banInfo
	case "fuse_info":
		answer = a.fuseInfo
	case "explain":
		answer, most = a.explain, 2
	case "config_info":
		answer = a.configInfo
	default:
		return nil, fmt.Errorf("%w: unknown first segment %q", ErrSelector, first)
	}
	if len(args) > most {
		return nil, fmt.Errorf("%w: %s takes at most %d segments after it, not %d", ErrSelector, first, most, len(args))
	}
	return answer(args)
}

// known returns the service that the first argument of a query names; first is the query's first segment, for the error.
func (a *Agent) known(first string, args []string) (*service, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("%w: %s needs a service: %s^SERVICE", ErrSelector, first, first)
	}
	if s := a.service(args[0]); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: no service %q", ErrSelector, args[0])
}

// RequestInfo is the answer to request_info: what came of the calls to one callee.
type RequestInfo struct {
	Requests uint64     `json:"request_cnt"`
	Success  uint64     `json:"success_cnt"` // status under 500
	Errors   uint64     `json:"5xx_cnt"`
	Retries  uint64     `json:"retry_cnt"`
	Modified *time.Time `json:"mtime"` // end of the last call; null: none yet
}

func (a *Agent) requestInfo(args []string) (any, error) {
	s, err := a.known("request_info", args)
	if err != nil {
		return nil, err
	}
	info := RequestInfo{Retries: s.retries.Load()}
	last := time.Duration(0)
	for _, l := range s.lines.all() {
		last = max(last, l.ended())
		for key, count := range l.requests.all() {
			n := sum(count)
			info.Requests += n
			if key.code < 500 {
				info.Success += n
			} else {
				info.Errors += n
			}
		}
	}
	if last > 0 {
		modified := a.epoch.Add(last).UTC()
		info.Modified = &modified
	}
	return info, nil
}

// BackendInfo is one instance in the answer to backend_info.
type BackendInfo struct {
	Backend  string            `json:"backend"`
	IDC      string            `json:"idc,omitempty"`
	Weight   int               `json:"weight"`
	Labels   map[string]string `json:"labels,omitempty"`
	State    model.State       `json:"state"`
	Banned   *BanInfo          `json:"banned,omitempty"`
	Bans     uint64            `json:"ban_cnt"`
	Failures int               `json:"window_failures"`      // among the callee's last 1,000 to 2,000 outcomes
	InFlight int               `json:"in_flight,omitempty"`  // under policies that go by it
	Latency  float64           `json:"latency_ms,omitempty"` // estimate, under policy ewma
	Share    float64           `json:"share"`                // part of its weight in force, 0–1: slow start, bad codes, slowness
	Outcomes map[string]uint64 `json:"outcomes,omitempty"`
}

// BanInfo is one ban in the answers to ban_info and backend_info.
type BanInfo struct {
	Backend    string        `json:"backend,omitempty"`
	Reason     health.Reason `json:"reason"`
	Since      time.Time     `json:"since"`
	Until      time.Time     `json:"until,omitzero"`      // when the port is probed next; absent: until it is lifted by hand
	HalfOpen   bool          `json:"half_open,omitempty"` // trials are under way
	Failures   int           `json:"failures"`
	ProbeError string        `json:"probe_error,omitempty"`
	By         string        `json:"by,omitempty"`  // who banned it by hand
	Why        string        `json:"why,omitempty"` // why, as the operator or the neighbour said
}

// banOf returns the ban of an instance, the one by hand if it has two; nil: none.
func (st *state) banOf(i *instance) *BanInfo {
	if ban := st.byHand[i.Address]; ban != nil {
		return &BanInfo{Reason: health.ByHand, Since: ban.Since.UTC(), Until: ban.Until.UTC(), By: ban.By, Why: ban.Reason}
	}
	ban, banned := i.health.Ban()
	if !banned {
		return nil
	}
	info := &BanInfo{
		Reason: ban.Reason, Since: ban.Since.UTC(), Until: ban.Until.UTC(), Failures: ban.Failures,
		HalfOpen: ban.HalfOpen, ProbeError: ban.LastErr,
	}
	if ban.Reason == health.ByNeighbour { // what the neighbour said: no probe of this agent's has failed
		info.Why, info.ProbeError = info.ProbeError, ""
	}
	return info
}

func (st *state) backend(i *instance, now time.Duration) BackendInfo {
	counts := i.health.Counts()
	info := BackendInfo{
		Bans: counts.Bans, Failures: counts.Failures,
		Backend: i.hostPort, IDC: i.IDC, Weight: i.Weight, Labels: i.Labels, State: i.State,
		InFlight: i.target.InFlight(), Share: i.target.Factor(now),
		Latency: float64(i.target.Latency(now)) / float64(time.Millisecond),
		Banned:  st.banOf(i),
	}
	for result, count := range counts.Outcomes {
		if count > 0 {
			if info.Outcomes == nil {
				info.Outcomes = map[string]uint64{}
			}
			info.Outcomes[health.Result(result).String()] = count
		}
	}
	return info
}

// Backends returns what the agent knows of a service's instances, by address; nil if it doesn't know the service.
func (a *Agent) Backends(service string) []BackendInfo {
	s := a.service(service)
	if s == nil {
		return nil
	}
	all := []BackendInfo{}
	now := s.awake()
	for _, i := range now.instances {
		all = append(all, now.backend(i, a.now()))
	}
	return all
}

func (a *Agent) backendInfo(args []string) (any, error) {
	s, err := a.known("backend_info", args)
	if err != nil {
		return nil, err
	}
	all := a.Backends(s.name)
	if len(args) == 1 {
		return all, nil
	}
	for _, backend := range all {
		if backend.Backend == args[1] {
			return []BackendInfo{backend}, nil
		}
	}
	return nil, fmt.Errorf("%w: service %q has no instance %q", ErrSelector, args[0], args[1])
}

// banInfo answers with the bans of one callee, or of all, by callee.
func (a *Agent) banInfo(args []string) (any, error) {
	services := *a.services.Load()
	if len(args) > 0 {
		s, err := a.known("ban_info", args)
		if err != nil {
			return nil, err
		}
		services = map[string]*service{s.name: s}
	}
	bans := map[string][]*BanInfo{}
	for name, s := range services {
		if s.sleeps() && len(s.view.Load().Bans) == 0 {
			continue
		}
		now := s.awake()
		for _, i := range now.instances {
			if ban := now.banOf(i); ban != nil {
				ban.Backend = i.hostPort
				bans[name] = append(bans[name], ban)
			}
		}
	}
	return bans, nil
}

// ConfigInfo is the answer to config_info^SERVICE: the documents in force.
type ConfigInfo struct {
	Documented bool             `json:"documented"` // false: no Service document, all defaults
	Revision   int64            `json:"revision"`
	Service    *model.Service   `json:"service"`
	Instances  []model.Instance `json:"instances"`
}

// ConfigSummary is the answer to config_info: what there is.
type ConfigSummary struct {
	Revision  int64               `json:"revision"`
	Services  []string            `json:"services"`
	Instances int                 `json:"instances"`
	Topology  *model.Topology     `json:"topology"`
	Rejected  []catalog.Rejection `json:"rejected"`
}

func (a *Agent) configInfo(args []string) (any, error) {
	if len(args) == 0 {
		_, instances := a.catalog.Counts()
		return ConfigSummary{
			Revision: a.catalog.Revision(), Services: a.catalog.Names(), Instances: instances,
			Topology: a.catalog.Topology(), Rejected: a.catalog.Rejected(),
		}, nil
	}
	s, err := a.known("config_info", args)
	if err != nil {
		return nil, err
	}
	view := s.view.Load()
	info := ConfigInfo{Documented: view.Documented, Revision: view.Revision, Service: withoutSecrets(view.Service), Instances: []model.Instance{}}
	for _, i := range view.Instances {
		info.Instances = append(info.Instances, *i)
	}
	return info, nil
}

// withoutSecrets returns a document as it may be shown. Where a webhook goes is often a secret as a whole: a part of its path, or of
// its query string, is what lets a message in.
func withoutSecrets(document *model.Service) *model.Service {
	hook := document.Ban.Webhook
	if hook == nil {
		return document
	}
	shown := *document
	shown.Ban.Webhook = &model.Webhook{URL: "...", After: hook.After}
	if parsed, err := url.Parse(hook.URL); err == nil {
		shown.Ban.Webhook.URL = parsed.Scheme + "://" + parsed.Host + "/..."
	}
	return &shown
}
