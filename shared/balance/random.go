package balance

// random draws members by weight.
type random struct{ list }

// Pick implements Policy.
func (p *random) Pick(r *Request) int { return p.draw(r) }
