package scenarios

import (
	"fmt"
	"image/color"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// curve is a plot of a row: a value over time, of UFC and of the comparators, by ledgers of a kind.
type curve[L any] struct {
	key, title     string // of its file, after the row's, and above it. Empty: the row's
	y              string // what is drawn
	value          func(l L, at, step time.Duration) float64
	variant        int
	log            bool          // a logarithmic scale, of values that count
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

// plotted returns what the row's plot shows: a run that doesn't end with the ban.
func (r *row) plotted() *setup {
	s := *r.variants[r.plot.variant]
	s.stop, s.after = nil, r.plot.to
	return &s
}

// line is one guard's run of a plot.
type line[L any] struct {
	name   string
	ledger L
}

// pens draw UFC and the comparators. Those do the same for long, so that each must show through the ones above it.
var pens = []draw.LineStyle{
	{Color: color.RGBA{R: 0xc0, G: 0x10, B: 0x10, A: 0xff}, Width: vg.Points(2)},
	{Color: color.Gray{Y: 0xc8}, Width: vg.Points(5)},
	{Color: color.RGBA{R: 0x1f, G: 0x5f, B: 0xb4, A: 0xff}, Width: vg.Points(1.5)},
	{Color: color.RGBA{R: 0x2c, G: 0x90, B: 0x2c, A: 0xff}, Width: vg.Points(1.5), Dashes: []vg.Length{vg.Points(8), vg.Points(8)}},
	{Color: color.RGBA{R: 0xe0, G: 0x8a, A: 0xff}, Width: vg.Points(1.5), Dashes: []vg.Length{vg.Points(3), vg.Points(9)}},
}

// draw writes the plot into a file.
func (c *curve[L]) draw(path, title string, lines []line[L]) error {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text, p.X.Label.Text = title, c.y, "seconds since the onset"
	p.Title.Padding = vg.Points(6)
	p.Legend.Top, p.Legend.ThumbnailWidth, p.Legend.Padding = true, vg.Points(28), vg.Points(2)
	p.Add(plotter.NewGrid())
	drawn := make([]*plotter.Line, len(lines))
	for n := range lines {
		var err error
		if drawn[n], err = plotter.NewLine(c.points(lines[n].ledger)); err != nil {
			return fmt.Errorf("plot %s: %s: %w", path, lines[n].name, err)
		}
		drawn[n].LineStyle = pens[n%len(pens)]
		p.Legend.Add(lines[n].name, drawn[n])
	}
	for n := range drawn { // UFC, the first, above the others
		p.Add(drawn[(n+1)%len(drawn)])
	}
	c.scale(p)
	return p.Save(18*vg.Centimeter, 10*vg.Centimeter, path)
}

// points are the values over time.
func (c *curve[L]) points(l L) (points plotter.XYs) {
	for at := c.from; at+c.step <= c.to; at += c.step {
		y := c.value(l, at, c.step)
		if c.log {
			y = max(y, 1)
		}
		points = append(points, plotter.XY{X: at.Seconds(), Y: y})
	}
	return points
}

// scale leaves room for the legend above the curves.
func (c *curve[L]) scale(p *plot.Plot) {
	if c.log {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		// A whole power of ten, else room is kept for the tick of the next one.
		p.Y.Min, p.Y.Max = 1, math.Pow(10, 2+math.Ceil(math.Log10(p.Y.Max)))
		return
	}
	p.Y.Min, p.Y.Max = 0, p.Y.Max*1.6
}
