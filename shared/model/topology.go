package model

// Topology says where the IDCs are, and where each one's traffic goes. There is one for the mesh.
// Not in force yet: traffic goes to all instances, wherever they are.
type Topology struct {
	IDCs    map[string]IDC         `json:"idcs,omitempty"`    // by physical IDC
	Routes  map[string][]IDCWeight `json:"routes,omitempty"`  // by the caller's logical IDC
	Drained []string               `json:"drained,omitempty"` // physical IDCs that get no traffic
}

// IDC is one physical data centre.
type IDC struct {
	Logical string `json:"logical"` // the logical IDC that it belongs to
}
