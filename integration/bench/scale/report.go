package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// report is the table.
type report struct {
	rows []row
}

type row struct {
	face, what, measured, wanted string
	reached                      string // yes, no; empty: nothing is wanted
}

// limit notes a figure that may be this large at most.
func (r *report) limit(face, what string, measured, most float64, unit string) {
	reached := "yes"
	if measured > most {
		reached = "no"
	}
	r.rows = append(r.rows, row{face, what, number(measured, unit), "≤ " + number(most, unit), reached})
}

// note notes a figure of which nothing is wanted.
func (r *report) note(face, what string, measured float64, unit string) {
	r.rows = append(r.rows, row{face: face, what: what, measured: number(measured, unit)})
}

func number(value float64, unit string) string {
	digits := 0
	switch {
	case value < 10:
		digits = 2
	case value < 100:
		digits = 1
	}
	text := fmt.Sprintf("%.*f", digits, value)
	if unit != "" {
		text += " " + unit
	}
	return text
}

func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "%-8s %-62s %12s %12s  %s\n", "", "what", "measured", "wanted", "reached")
	for _, row := range r.rows {
		fmt.Fprintf(out, "%-8s %-62s %12s %12s  %s\n", row.face, row.what, row.measured, row.wanted, row.reached)
	}
}

// quantile returns the value that a share p of the values don't exceed.
func quantile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
