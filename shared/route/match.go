package route

import (
	"fmt"
	"math"
	"path"
	"slices"

	"github.com/ufc-mesh/ufc/shared/model"
)

// match is a compiled model.Match. What wasn't given is empty, and holds.
type match struct {
	callers Globs
	idcs    []string
	methods []string
	path    pathTest // of no use unless hasPath
	hasPath bool
	headers []headerTest
	percent percent
}

// compileMatch compiles a match. Its error begins with the path of the fault.
func compileMatch(m *model.Match) (match, error) {
	for i, glob := range m.Callers {
		if _, err := path.Match(glob, ""); err != nil {
			return match{}, fmt.Errorf("callers[%d]: %q: %w", i, glob, err)
		}
	}
	headers, err := compileHeaders(m.Headers)
	if err != nil {
		return match{}, err
	}
	share, err := compilePercent(m.Percent)
	if err != nil {
		return match{}, err
	}
	return match{
		callers: CompileGlobs(m.Callers),
		idcs:    slices.Clone(m.CallerIDCs),
		methods: slices.Clone(m.Methods),
		path:    compilePath(m.Path),
		hasPath: m.Path != "",
		headers: headers,
		percent: share,
	}, nil
}

// holds tells whether everything but the percent holds.
func (m *match) holds(r *Request) bool {
	if len(m.callers.globs) > 0 && !m.callers.Match(r.Caller) ||
		len(m.idcs) > 0 && !slices.Contains(m.idcs, r.CallerIDC) ||
		len(m.methods) > 0 && !slices.Contains(m.methods, r.Method) ||
		m.hasPath && !m.path.match(r.Path) {
		return false
	}
	for i := range m.headers {
		if !m.headers[i].holds(r) {
			return false
		}
	}
	return true
}

// percent is a share of the requests.
type percent struct {
	all   bool
	below uint64 // of 2⁶⁴
}

// compilePercent compiles a percent; nil is all. Its error begins with the path of the fault.
func compilePercent(p *float64) (percent, error) {
	switch {
	case p == nil || *p == 100:
		return percent{all: true}, nil
	case !(*p >= 0 && *p <= 100): // NaN too
		return percent{}, fmt.Errorf("percent: %v is not between 0 and 100", *p)
	}
	// A float64 holds all that people type to 16 digits. The quotient and the product grow with it, so that a larger percent
	// never loses a key, and stay below 2⁶⁴: even the float64 next to 100 leaves out 2¹¹.
	return percent{below: uint64(math.Ldexp(*p/100, 64))}, nil
}

// takes tells whether a request belongs to the share.
func (p percent) takes(key, salt uint64) bool {
	return p.all || p.below > 0 && Uniform(key, salt) < p.below
}
