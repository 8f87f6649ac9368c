package model

// Topology says where the IDCs are, and where each one's traffic goes. There is one for the mesh.
//
// A caller's IDC is what its request says (x-ufc-idc, client_idc), else its agent's own. Callers whose IDC isn't one of
// IDCs, or for whose logical IDC no table is given, get all instances but the drained ones, wherever they are.
type Topology struct {
	// IDCs are the physical IDCs (data centres), by name.
	IDCs map[string]IDC `json:"idcs,omitempty"`
	// Routes are the IDC tables, by the caller's logical IDC. An IDC without a row gets nothing from these callers, not even
	// when all others are down. A Service's idc_routes go before them.
	Routes map[string][]IDCWeight `json:"routes,omitempty"`
	// Drained are physical IDCs whose instances get no traffic, from anybody.
	Drained []string `json:"drained,omitempty"`
}

// IDC is one physical data centre.
type IDC struct {
	Logical string `json:"logical"` // the logical IDC that it belongs to: those near enough to be one to their callers
}

// Empty tells whether it says nothing, as when there is none.
func (t *Topology) Empty() bool { return len(t.IDCs) == 0 && len(t.Routes) == 0 && len(t.Drained) == 0 }
