package scenarios

import (
	"fmt"
	"image/color"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// curve is a plot of a row: a value over time, of UFC and of the comparators.
type curve struct {
	y              string // what is drawn
	value          func(l *ledger, at, step time.Duration) float64
	variant        int
	from, to, step time.Duration // since the onset
}

// The values. Each is over a step from a moment on, since the onset.
func successShare(l *ledger, at, step time.Duration) float64 {
	sum := l.between(at, at+step)
	return sum.success()
}

func faultyShare(l *ledger, at, step time.Duration) float64 {
	sum := l.between(at, at+step)
	return ratio(sum.faulty, sum.attempts)
}

func failuresSoFar(l *ledger, at, step time.Duration) float64 {
	return float64(l.between(0, at+step).failed)
}

func bansSoFar(l *ledger, at, step time.Duration) float64 {
	return float64(len(l.bans(func(v *verdict) bool { return v.at < at+step })))
}

func slowest(l *ledger, at, step time.Duration) float64 {
	return float64(l.quantile(at, at+step, 0.99)) / float64(time.Millisecond)
}

// setup returns what the plot shows: a run that doesn't end with the ban.
func (c *curve) setup(of *row) *setup {
	s := *of.variants[c.variant]
	s.stop, s.after = nil, c.to
	return &s
}

// line is one guard's run of a plot.
type line struct {
	name   string
	ledger *ledger
}

var palette = []color.Color{
	color.RGBA{R: 0xc0, G: 0x10, B: 0x10, A: 0xff}, color.Gray{Y: 0x99}, color.RGBA{R: 0x1f, G: 0x5f, B: 0xb4, A: 0xff},
	color.RGBA{R: 0x2c, G: 0x90, B: 0x2c, A: 0xff}, color.RGBA{R: 0xd0, G: 0x8a, A: 0xff},
}

// draw writes the plot into a file.
func (c *curve) draw(path, title string, lines []line) error {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text, p.X.Label.Text = title, c.y, "seconds since the onset"
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for n := len(lines) - 1; n >= 0; n-- { // UFC, the first, above the others
		points := plotter.XYs{}
		for at := c.from; at+c.step <= c.to; at += c.step {
			points = append(points, plotter.XY{X: at.Seconds(), Y: c.value(lines[n].ledger, at, c.step)})
		}
		drawn, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("plot %s: %s: %w", path, lines[n].name, err)
		}
		drawn.Color, drawn.Width = palette[n%len(palette)], vg.Points(1.2)
		if n == 0 {
			drawn.Width = vg.Points(2.2)
		}
		p.Add(drawn)
		p.Legend.Add(lines[n].name, drawn)
	}
	p.Y.Max *= 1.3 // room for the legend
	return p.Save(18*vg.Centimeter, 9*vg.Centimeter, path)
}
