package route

import (
	"reflect"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestIDCs(t *testing.T) {
	north, south := []model.IDCWeight{{To: "north", Weight: 100}}, []model.IDCWeight{{To: "south", Weight: 90}, {To: "north", Weight: 10}}
	own := []model.IDCWeight{{To: "south", Weight: 1}}
	idcs := CompileIDCs(&model.Topology{
		IDCs:    map[string]model.IDC{"bj-a": {Logical: "north"}, "bj-b": {Logical: "north"}, "gz-a": {Logical: "south"}, "xa-a": {Logical: "west"}},
		Routes:  map[string][]model.IDCWeight{"north": north, "south": south, "east": {}},
		Drained: []string{"gz-a", "unknown"},
	})
	f := func(physical, logical string, drained bool, rows, overridden []model.IDCWeight) {
		t.Helper()
		if got := idcs.Logical(physical); got != logical {
			t.Errorf("%q: logical IDC %q, want %q", physical, got, logical)
		}
		if got := idcs.Drained(physical); got != drained {
			t.Errorf("%q: drained %v, want %v", physical, got, drained)
		}
		if got := idcs.Rows(nil, physical); !reflect.DeepEqual(got, rows) {
			t.Errorf("%q: rows %v, want %v", physical, got, rows)
		}
		override := map[string][]model.IDCWeight{"north": own, "south": {}, "": own}
		if got := idcs.Rows(override, physical); !reflect.DeepEqual(got, overridden) {
			t.Errorf("%q: overridden rows %v, want %v", physical, got, overridden)
		}
	}
	f("bj-a", "north", false, north, own)
	f("bj-b", "north", false, north, own)
	f("gz-a", "south", true, south, south) // an empty override is none
	f("xa-a", "west", false, nil, nil)     // a logical IDC without rows
	f("", "", false, nil, nil)
	f("elsewhere", "", false, nil, nil)
	f("north", "", false, nil, nil) // a logical IDC is no physical one
	f("unknown", "", true, nil, nil)
	if got := idcs.Rows(map[string][]model.IDCWeight{"west": own}, "xa-a"); !reflect.DeepEqual(got, own) {
		t.Errorf("only the service has rows, got %v", got)
	}
}

func TestIDCsOfNothing(t *testing.T) {
	for _, idcs := range []*IDCs{CompileIDCs(nil), CompileIDCs(&model.Topology{})} {
		if idcs.Logical("bj-a") != "" || idcs.Drained("bj-a") || idcs.Rows(map[string][]model.IDCWeight{"": {{To: "a"}}}, "bj-a") != nil {
			t.Error("an empty topology knows bj-a")
		}
	}
}
