package bypass

import (
	"net/http"

	"golang.org/x/time/rate"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// How often debug queries are answered: an answer may be of megabytes, and people read it.
const (
	queriesPerSecond, queriesAtOnce = 10, 20
	guessesPerSecond, guessesAtOnce = 1, 10
)

// limits are those of debug queries. Wrong tokens are counted apart, so that who has none keeps nobody else out; those from this
// machine once more apart, so that a stranger doesn't keep out the people who have come to the machine.
type limits struct {
	queries, local, remote *rate.Limiter
}

func newLimits() limits {
	return limits{
		queries: rate.NewLimiter(queriesPerSecond, queriesAtOnce),
		local:   rate.NewLimiter(guessesPerSecond, guessesAtOnce), remote: rate.NewLimiter(guessesPerSecond, guessesAtOnce),
	}
}

// guesses is the limit of the wrong tokens that come from where a request does.
func (l *limits) guesses(r *http.Request) *rate.Limiter {
	if fromLoopback(r) {
		return l.local
	}
	return l.remote
}

func tooMany(w http.ResponseWriter, what string) *agent.Refusal {
	w.Header().Set("Retry-After", "1")
	return &agent.Refusal{Reason: agent.ReasonRate, Detail: what + ": come back in a second"}
}
