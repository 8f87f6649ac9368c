package fuse

// Kind is which of a call's attempts a request is.
type Kind uint8

// The kinds, the least important first.
const (
	Retry Kind = iota
	Hedge
	First
)

// MaxWeight is the weight of the most important request: level 1, class 7, first attempt.
const MaxWeight = 24*4 + 3*7 + int(First)

// Weight tells who is refused first: the lightest. The level, 1 to 5, is the caller's, 1 the most important; the class, 0 to
// 7, is the request's within its caller, 7 the most important.
//
//	24·(5 − level) + 3·class + (2 first attempt, 1 hedge, 0 retry)
func Weight(level, class int, kind Kind) int {
	return 24*(5-min(max(level, 1), 5)) + 3*min(max(class, 0), 7) + int(min(kind, First))
}
