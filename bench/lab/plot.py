"""Charts as SVG, without a plotting library: lines or points over linear or logarithmic axes, one or more panels side by side.

    chart = Chart("Time to first token", "Mbit/s", "seconds", log_x=True, log_y=True)
    chart.line("ours", [(10, 21.0), (50, 4.2)])
    write("docs/ttft.svg", [chart])

Colours follow the reader's light or dark mode.
"""
import math
from html import escape

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 36, 76
COLOURS = ["#2a78d6", "#e07b39", "#3a9d5d", "#b0489c", "#8a7a2f", "#5b5bd6"]
STYLE = """<style>
 svg{background:#fff} text{font:12px system-ui,sans-serif;fill:#222} .title{font-weight:600;font-size:13px}
 .grid{stroke:#ddd} .axis{stroke:#666} .note{fill:#555}
 @media (prefers-color-scheme:dark){svg{background:#16181c} text{fill:#ddd} .grid{stroke:#333} .axis{stroke:#999} .note{fill:#aaa}}
</style>"""


class Axis:
    """Values to pixels."""

    def __init__(self, values, first, last, log):
        low, high = min(values), max(values)
        self.log = log and low > 0
        if self.log:
            low, high = low / 1.1, high * 1.1
        else:
            low, high = min(0.0, low), high * 1.05 if high > 0 else 1.0
        self.low, self.high, self.first, self.last = low, high if high > low else low + 1, first, last

    def at(self, value):
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self):
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            wide = math.log10(self.high / self.low) > 2.5
            return [m * 10.0**p for p in powers for m in ((1,) if wide else (1, 2, 5)) if self.low <= m * 10.0**p <= self.high]
        raw = (self.high - self.low) / 5
        step = 10 ** math.floor(math.log10(raw))
        step *= next(m for m in (1, 2, 5, 10) if step * m >= raw)
        return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def label(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"


class Chart:
    def __init__(self, title, x, y, log_x=False, log_y=False):
        self.title, self.x, self.y, self.log_x, self.log_y = title, x, y, log_x, log_y
        self.series = []

    def line(self, name, points, dashed=False, marks=True, names=None):
        """points: [(x, y)]; names: a text beside each point."""
        self.series.append((name, sorted(points) if names is None else points, dashed, marks, names))

    def points(self, name, points, names=None):
        self.series.append((name, points, None, True, names))

    def svg(self, left):
        points = [p for _, series, *_ in self.series for p in series]
        xs = Axis([p[0] for p in points], left + LEFT, left + WIDTH - RIGHT, self.log_x)
        ys = Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, self.log_y)
        out = [f'<text class="title" x="{left + LEFT}" y="20">{escape(self.title)}</text>']
        for tick in xs.ticks():
            out.append(f'<line class="grid" x1="{xs.at(tick):.1f}" x2="{xs.at(tick):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            out.append(f'<text x="{xs.at(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label(tick)}</text>')
        for tick in ys.ticks():
            out.append(f'<line class="grid" x1="{left + LEFT}" x2="{left + WIDTH - RIGHT}" y1="{ys.at(tick):.1f}" y2="{ys.at(tick):.1f}"/>')
            out.append(f'<text x="{left + LEFT - 6}" y="{ys.at(tick) + 4:.1f}" text-anchor="end">{label(tick)}</text>')
        out.append(f'<text class="note" x="{left + (LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - BOTTOM + 34}" text-anchor="middle">{escape(self.x)}</text>')
        middle = (TOP + HEIGHT - BOTTOM) / 2
        out.append(f'<text class="note" transform="translate({left + 14} {middle}) rotate(-90)" text-anchor="middle">{escape(self.y)}</text>')
        for i, series in enumerate(self.series):
            out += self.draw(series, COLOURS[i % len(COLOURS)], xs, ys)
            column, row = i % 3, i // 3
            at = left + LEFT + column * (WIDTH - LEFT - RIGHT) / 3
            y = HEIGHT - 22 + row * 15
            out.append(f'<circle cx="{at + 4:.1f}" cy="{y - 4}" r="4" fill="{COLOURS[i % len(COLOURS)]}"/>')
            out.append(f'<text x="{at + 12:.1f}" y="{y}">{escape(series[0])}</text>')
        return out

    @staticmethod
    def draw(series, colour, xs, ys):
        _, points, dashed, marks, names = series
        at = [(xs.at(x), ys.at(y)) for x, y in points]
        out = []
        if dashed is not None:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
            dash = ' stroke-dasharray="5 4"' if dashed else ""
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for i, (x, y) in enumerate(at):
            if marks:
                out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
            if names:
                out.append(f'<text x="{x + 6:.1f}" y="{y - 6:.1f}">{escape(names[i])}</text>')
        return out


def write(path, charts, note=""):
    rows = max((len(chart.series) + 2) // 3 for chart in charts)
    height = HEIGHT + 15 * (rows - 1) + (20 if note else 0)
    width = WIDTH * len(charts)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">', STYLE]
    for i, chart in enumerate(charts):
        out += chart.svg(i * WIDTH)
    if note:
        out.append(f'<text class="note" x="{LEFT}" y="{height - 6}">{escape(note)}</text>')
    out.append("</svg>\n")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out))
