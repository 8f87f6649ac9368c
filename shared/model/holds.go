package model

// Holds are removals that are held back, by how much there was before: what is needed beside the records in force to go on
// holding them back after a restart.
type Holds struct {
	Services  map[string]int `json:"services,omitempty"`  // instances of each service that some are held of
	Instances int            `json:"instances,omitempty"` // of the mesh; 0: it isn't held for the mesh's sake
	Documents int            `json:"documents,omitempty"` // Service documents; 0: as above
}
