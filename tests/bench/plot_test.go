package bench

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

// The plot's measures in pixels, and its scale: powers of two of a subdirectory's rate.
const (
	left, right, top = 270, 740, 30
	rowHeight        = 41
	barHeight        = 12
	least, most      = -2, 7
)

// plotted are the places that have bars, with their colours. More than two are hard to read.
var plotted = []struct{ place, colour string }{{"block, xfs", "#1f6f8b"}, {"block, ext4", "#99c1d6"}}

// x is the position of a ratio on the logarithmic scale.
func x(ratio float64) float64 {
	at := min(max(math.Log2(ratio), least), most)
	return left + (right-left)*(at-least)/(most-least)
}

// plot draws rates relative to those of a subdirectory.
func plot(t *testing.T, file string, r *results) {
	t.Helper()
	bottom := top + rowHeight*len(r.names)
	var b strings.Builder
	fmt.Fprintf(&b,
		"<svg xmlns=%q viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\"><rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", "http://www.w3.org/2000/svg", right+40, bottom+30)
	for power := least; power <= most; power++ {
		ratio, colour := math.Exp2(float64(power)), "#ddd"
		if power == 0 {
			colour = "#444"
		}
		fmt.Fprintf(&b,
			"<line x1=\"%.0f\" y1=\"%d\" x2=\"%.0f\" y2=\"%d\" stroke=%q/><text x=\"%.0f\" y=\"%d\" text-anchor=\"middle\" fill=\"#444\">%g×</text>\n",
			x(ratio), top, x(ratio), bottom, colour, x(ratio), bottom+16, ratio)
	}
	for i, name := range r.names {
		y := top + rowHeight*i + 6
		label := name[:max(0, strings.LastIndex(name, ", "))] // without its unit
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\" font-size=\"12\">%s</text>\n", left-8, y+17, label)
		for j, p := range plotted {
			ratio, known := r.ratio(name, p.place)
			if !known {
				continue
			}
			from, to := min(x(1), x(ratio)), max(x(1), x(ratio))
			fmt.Fprintf(&b,
				"<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=%q/><text x=\"%.1f\" y=\"%d\" font-size=\"10\" fill=\"#444\">%.2g</text>\n",
				from, y+j*(barHeight+2), to-from, barHeight, p.colour, to+4, y+j*(barHeight+2)+10, ratio)
		}
	}
	for i, p := range plotted {
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"8\" width=\"12\" height=\"12\" fill=%q/><text x=\"%d\" y=\"19\">%s</text>",
			left+110*i, p.colour, left+110*i+18, p.place)
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"19\" fill=\"#444\">rate relative to a subdirectory (1×)</text></svg>\n",
		left+230)
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
