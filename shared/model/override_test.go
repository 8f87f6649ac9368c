package model

import (
	"reflect"
	"testing"
)

// Each field of an override alone, found by reflection, must change the field of the same name of the service, and nothing
// else. So a field that is new can't be forgotten.
func TestWithOverrideReplacesEachField(t *testing.T) {
	tested := 0
	var walk func(path []int, name string, at reflect.Type)
	walk = func(path []int, name string, at reflect.Type) {
		for i := range at.NumField() {
			field := at.Field(i)
			if len(path) == 0 && field.Name == "Match" {
				continue // whom it is for
			}
			fieldPath, fieldName := append(path[:len(path):len(path)], i), name+"."+field.Name
			inner := field.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				walk(fieldPath, fieldName, inner)
				continue
			}
			tested++
			for _, value := range overrideValues(t, field.Type) {
				overrideOne(t, fieldPath, fieldName, value)
			}
		}
	}
	walk(nil, "", reflect.TypeFor[CallerOverride]())
	if tested < 17 { // level, 2 × 4 timeouts, client_override, 2 × 2 limits of retries, unsafe, budget, routes
		t.Errorf("only %d fields tested", tested)
	}
}

// overrideValues returns values that a field of a type can be overridden by: none is DefaultService's, and where it can
// be told from "not given", the zero value is among them.
func overrideValues(t *testing.T, of reflect.Type) []reflect.Value {
	t.Helper()
	var values []any
	switch of {
	case reflect.TypeFor[*int]():
		values = []any{new(0), new(5)}
	case reflect.TypeFor[*bool]():
		values = []any{new(true), new(false)}
	case reflect.TypeFor[*float64]():
		values = []any{new(0.0), new(0.5)}
	case reflect.TypeFor[Duration]():
		values = []any{seconds(77)}
	case reflect.TypeFor[[]RetryWhen]():
		values = []any{[]RetryWhen{WhenRead}, []RetryWhen{}}
	case reflect.TypeFor[[]Route]():
		values = []any{[]Route{{Match: Match{Path: "/other"}}}, []Route{}}
	default:
		t.Fatalf("an override has a field of type %v: say what it can be overridden by", of)
	}
	all := make([]reflect.Value, len(values))
	for i := range values {
		all[i] = reflect.ValueOf(values[i])
	}
	return all
}

// overrideOne overrides one field and checks the whole outcome.
func overrideOne(t *testing.T, path []int, name string, value reflect.Value) {
	t.Helper()
	service := func() *Service {
		s := DefaultService("shop")
		s.Routes = []Route{{Match: Match{Path: "/own"}}}
		return s
	}
	var override CallerOverride
	at := reflect.ValueOf(&override).Elem()
	want := service()
	wantAt := reflect.ValueOf(want).Elem()
	for _, index := range path {
		if at.Kind() == reflect.Pointer {
			if at.IsNil() {
				at.Set(reflect.New(at.Type().Elem()))
			}
			at = at.Elem()
		}
		wantAt = wantAt.FieldByName(at.Type().Field(index).Name)
		at = at.Field(index)
		if !wantAt.IsValid() {
			t.Errorf("%s: a Service has no field of this name", name)
			return
		}
	}
	at.Set(value)
	wantAt.Set(reflect.Indirect(value))

	original := service()
	got := original.WithOverride(&override)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s overridden by %v:\n%+v, want\n%+v", name, reflect.Indirect(value), got, want)
	}
	if !reflect.DeepEqual(original, service()) {
		t.Errorf("%s: the original is changed", name)
	}
}

func TestWithOverrideOfNothing(t *testing.T) {
	service := DefaultService("shop")
	for _, o := range []CallerOverride{{}, {Match: []string{"*"}, Timeouts: &TimeoutsOverride{}, Retries: &RetriesOverride{}}} {
		got := service.WithOverride(&o)
		if got == service || !reflect.DeepEqual(got, service) {
			t.Errorf("%+v, want a copy of %+v", got, service)
		}
	}
}
