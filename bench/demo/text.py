"""What the demo prints: at most 100 columns, for somebody who has read nothing."""
import textwrap

WIDTH = 100
BAR = 48


def paragraph(text):
    print(textwrap.fill(" ".join(text.split()), WIDTH))


def heading(text):
    print(f"\n{text}\n{'-' * len(text)}")


def shortened(text, width):
    """The first line, cut where it is too long."""
    lines = text.strip().splitlines() or [""]
    line = lines[0] + (" ..." if len(lines) > 1 else "")
    return line if len(line) <= width else line[:width - 4].rstrip() + " ..."


def megabytes(n_bytes):
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes else "-"


def seconds(ms):
    return f"{ms / 1000:.2f} s"


def timeline(layers):
    """Lines that draw when each layer was there; the deepest on top. layers: of x_celslm."""
    end = max(layer["ms"] for layer in layers)
    lines = []
    for number, layer in reversed(list(enumerate(layers))):
        mark = {"compute": "c", "cloud": "#"}.get(layer["source"], "+")
        length = max(1, round(layer["ms"] / end * BAR)) if end else 1
        lines.append(f"  layer {number:2}  {layer['source']:8}{mark * length:{BAR}}  {seconds(layer['ms'])}")
    return lines
