package route

import "github.com/ufc-mesh/ufc/shared/model"

// IDCs is a compiled topology.
type IDCs struct {
	physical map[string]physicalIDC
	rows     map[string][]model.IDCWeight // by the caller's logical IDC
}

type physicalIDC struct {
	logical string
	drained bool
}

// CompileIDCs compiles a topology, which must not change any more. A nil one is empty.
func CompileIDCs(topology *model.Topology) *IDCs {
	if topology == nil {
		return &IDCs{}
	}
	p := &IDCs{physical: make(map[string]physicalIDC, len(topology.IDCs)), rows: topology.Routes}
	for name, idc := range topology.IDCs {
		p.physical[name] = physicalIDC{logical: idc.Logical}
	}
	for _, name := range topology.Drained {
		idc := p.physical[name]
		idc.drained = true
		p.physical[name] = idc
	}
	return p
}

// Logical returns the logical IDC that a physical one belongs to, "" if it is unknown.
func (p *IDCs) Logical(physical string) string { return p.physical[physical].logical }

// Drained tells whether a physical IDC gets no traffic.
func (p *IDCs) Drained(physical string) bool { return p.physical[physical].drained }

// Rows returns the IDC table for a caller in a physical IDC: the row set that override, the service's idc_routes, has for
// its logical IDC, else the topology's. nil means no table, and all instances: the caller's IDC is unknown, or nothing is
// said of it. The rows are shared, and not to be changed.
func (p *IDCs) Rows(override map[string][]model.IDCWeight, callerIDC string) []model.IDCWeight {
	logical := p.Logical(callerIDC)
	if logical == "" {
		return nil
	}
	if rows := override[logical]; len(rows) > 0 {
		return rows
	}
	if rows := p.rows[logical]; len(rows) > 0 {
		return rows
	}
	return nil
}
