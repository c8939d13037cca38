"""Charts as SVG: lines or points over linear or logarithmic axes, heat maps, intervals; one or more panels side by side.

    chart = Chart("Time to first token", "Mbit/s", "seconds", log_x=True, log_y=True)
    chart.line("ours", [(10, 21.0), (50, 4.2)])
    write("docs/ttft.svg", [chart])

Colours follow the reader's light or dark mode: matplotlib writes each colour into the style of its element, and a rule
of the picture replaces them where the reader prefers dark. What has no value (None) is not drawn. matplotlib is imported
where something is drawn: what draws nothing does without it.
"""
import io
import itertools
import math

from . import labels

INK, FAINT, GRID, PAPER = "#222222", "#5a5a5a", "#d9d9d9", "#ffffff"  # FAINT: axes and notes
SERIES = ("#2a78d6", "#c4601d", "#2f8a50", "#a83f94", "#8a7a2f", "#5b5bd6")
DARK = {INK: "#dddddd", FAINT: "#a6a6a6", GRID: "#3a3d42", PAPER: "#16181c", "#2a78d6": "#5b9ee8", "#c4601d": "#e88a4a",
        "#2f8a50": "#55b878", "#a83f94": "#d077c0", "#8a7a2f": "#b8a650", "#5b5bd6": "#9090f0"}
MARKED = "#d9480f"  # frames of a heat map: visible on every shade of it
CELL_TEXT = ("#111111", "#fefefe")  # on light cells, on dark ones: a cell brings its own background in either mode
PANEL_INCHES = (5.2, 3.4)


class Chart:
    def __init__(self, title, x, y, log_x=False, log_y=False):
        self.title, self.x, self.y, self.log_x, self.log_y = title, x, y, log_x, log_y
        self.series = []

    def line(self, name, points, dashed=False, marks=True, names=None):
        """points: [(x, y)]; names: a text beside each point, which are joined in their order (else by x)."""
        self._add(name, points, "--" if dashed else "-", marks, names)

    def points(self, name, points, names=None):
        self._add(name, points, "None", True, names)

    def _add(self, name, points, style, marks, names):
        known = [(x, y, text) for (x, y), text in zip(points, names or [""] * len(points)) if None not in (x, y)]
        if known:
            self.series.append((name, known if names else sorted(known), style, marks))

    @property
    def inches(self):
        return PANEL_INCHES

    def draw(self, axes):
        for (name, points, style, marks), colour in zip(self.series, itertools.cycle(SERIES)):
            axes.plot([x for x, _, _ in points], [y for _, y, _ in points], linestyle=style, color=colour, label=name,
                      marker="o" if marks else "", markersize=4.5, linewidth=1.6)
        set_scale(axes.xaxis, axes.set_xscale, self.log_x)
        set_scale(axes.yaxis, axes.set_yscale, self.log_y)
        axes.grid(color=GRID, linewidth=0.8)
        if self.series:
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.18), ncols=self.legend_columns, frameon=False,
                        borderaxespad=0, handlelength=1.8, columnspacing=1.2)

    @property
    def legend_columns(self):
        return 3 if max(len(name) for name, *_ in self.series) < 16 else 2

    @property
    def legend_rows(self):
        return math.ceil(len(self.series) / self.legend_columns) if self.series else 0

    def label(self, axes):
        """Once the panels have their sizes: texts beside points, where nothing else is."""
        labels.beside_points(axes, [(x, y, text) for _, points, _, _ in self.series for x, y, text in points])


class HeatMap:
    """values: rows of numbers in [0, 1]; framed: {(row, column)}."""

    legend_rows = 0

    def __init__(self, title, x, y, values, framed=()):
        self.title, self.x, self.y, self.values, self.framed = title, x, y, values, framed

    @property
    def inches(self):
        return 1.4 + 0.42 * len(self.values[0]), 1.5 + 0.42 * len(self.values)

    def draw(self, axes):
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle
        shades = LinearSegmentedColormap.from_list("shades", ["#f4f8ff", "#14418c"])
        axes.pcolormesh(self.values, cmap=shades, vmin=0, vmax=1, edgecolors=PAPER, linewidth=1.5)
        for row, values in enumerate(self.values):
            for column, value in enumerate(values):
                axes.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=8,
                          color=CELL_TEXT[value > 0.7])
        for row, column in self.framed:
            axes.add_patch(Rectangle((column + 0.04, row + 0.04), 0.92, 0.92, fill=False, edgecolor=MARKED, linewidth=1.8))
        axes.set_xticks([i + 0.5 for i in range(len(self.values[0]))], range(len(self.values[0])))
        axes.set_yticks([i + 0.5 for i in range(len(self.values))], range(len(self.values)))
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.tick_params(length=0)

    def label(self, axes):
        pass


class Intervals:
    """rows: [(name, value, [low, high])], the first at the top."""

    legend_rows = 0

    def __init__(self, title, x, rows):
        self.title, self.x, self.y, self.rows = title, x, "", rows

    @property
    def inches(self):
        longest = max((len(name) for name, *_ in self.rows), default=0)
        return 3.6 + 0.07 * max(0, longest - 10), 1.3 + 0.28 * len(self.rows)

    def draw(self, axes):
        for place, (_, value, (low, high)) in enumerate(self.rows):
            axes.plot([low, high], [place, place], color=SERIES[0], linewidth=1.6)
            axes.plot([value], [place], color=SERIES[0], marker="o", markersize=5, linestyle="None")
        axes.set_yticks(range(len(self.rows)), [name for name, *_ in self.rows])
        axes.set_ylim(len(self.rows) - 0.5, -0.5)
        axes.grid(axis="x", color=GRID, linewidth=0.8)

    def label(self, axes):
        pass


def write(path, charts, note=""):
    out = io.StringIO()
    with style():
        figure_of(charts, note).savefig(out, format="svg", metadata={"Date": None})
    with open(path, "w", encoding="utf-8") as file:
        file.write(with_dark_mode(out.getvalue()))


def overlaps(charts, note="a machine; a model"):
    """What would be wrong with the labels of a picture, as sentences."""
    if not charts:
        return []
    with style():
        return labels.overlaps(figure_of(charts, note))


def style():
    import matplotlib
    matplotlib.use("svg")
    return matplotlib.rc_context({
        "svg.fonttype": "none", "svg.hashsalt": "celslm", "font.family": ["DejaVu Sans", "sans-serif"], "font.size": 9,
        "axes.titlesize": 10, "axes.titleweight": "bold", "axes.edgecolor": FAINT, "axes.labelcolor": FAINT,
        "axes.titlecolor": INK, "text.color": INK, "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": INK,
        "ytick.labelcolor": INK, "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
        "axes.spines.top": False, "axes.spines.right": False, "legend.labelcolor": INK})


def figure_of(charts, note=""):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    wide, high = sum(chart.inches[0] for chart in charts), max(chart.inches[1] for chart in charts)
    high += 0.22 * max(chart.legend_rows for chart in charts) + (0.25 if note else 0)
    figure = Figure(figsize=(wide, high), layout="constrained")
    FigureCanvasAgg(figure)  # measures text
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    panels = figure.subplots(1, len(charts), squeeze=False, width_ratios=[chart.inches[0] for chart in charts])[0]
    for chart, axes in zip(charts, panels):
        axes.set_title(chart.title)
        axes.set_xlabel(chart.x)
        axes.set_ylabel(chart.y)
        chart.draw(axes)
    if note:
        figure.supxlabel(wrapped(note, wide), x=0.01, ha="left", fontsize=8, color=FAINT)
    figure.draw_without_rendering()  # lays the panels out
    for chart, axes in zip(charts, panels):
        chart.label(axes)
    return figure


def wrapped(note, inches):
    import textwrap
    return "\n".join(textwrap.wrap(note, int(inches * 15)))


def set_scale(axis, set_it, log):
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
    low, high = axis.get_data_interval()
    if not log:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_view_interval(min(0, low), high + 0.05 * abs(high) if high else 1, ignore=True)
        return
    set_it("log")
    axis.set_major_locator(LogLocator(subs=(1,) if low > 0 and high / low > 300 else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: decimal(value)))
    axis.set_minor_formatter(NullFormatter())


def decimal(value):
    """50,000 and 0.00005 rather than 5e+04 and 5e-05"""
    return f"{value:,.0f}" if value >= 100 else f"{value:.9f}".rstrip("0").rstrip(".")


def with_dark_mode(svg):
    rules = "".join(f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}' for light, dark in DARK.items()
                    for kind in ("fill", "stroke"))
    head = svg.index(">", svg.index("<svg")) + 1
    return svg[:head] + f"\n <style>@media (prefers-color-scheme:dark){{{rules}}}</style>" + svg[head:]
