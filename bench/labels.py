"""Texts of a picture: placed so that they cover nothing, and whether they do."""
import itertools


def beside_points(axes, labels):
    """Each text beside its point, at the first of eight places where it covers no point, no line and no other text."""
    taken = [point_box(axes, x, y) for x, y, _ in labels] + line_boxes(axes)
    for x, y, text in labels:
        if not text:
            continue
        best = None
        for dx, dy in ((6, 6), (6, -6), (-6, 6), (-6, -6), (0, 9), (0, -9), (10, 0), (-10, 0)):
            note = axes.annotate(text, (x, y), xytext=(dx, dy), textcoords="offset points", fontsize=8,
                                 ha="left" if dx > 0 else "right" if dx < 0 else "center",
                                 va="bottom" if dy > 0 else "top" if dy < 0 else "center")
            box = box_of(note)
            hits = sum(box.overlaps(other) for other in taken) + (100 if not contains(axes.bbox, box) else 0)
            if best is None or hits < best[0]:
                if best:
                    best[1].remove()
                best = (hits, note, box)
            else:
                note.remove()
            if hits == 0:
                break
        taken.append(best[2])


def point_box(axes, x, y, size=4):
    from matplotlib.transforms import Bbox
    at = axes.transData.transform((x, y))
    return Bbox.from_extents(at[0] - size, at[1] - size, at[0] + size, at[1] + size)


def line_boxes(axes, pieces=40):
    """Small boxes along every line."""
    out = []
    for line in axes.get_lines():
        if line.get_linestyle() == "None":
            continue
        at = axes.transData.transform(line.get_xydata())
        for (x0, y0), (x1, y1) in itertools.pairwise(at):
            out += [box_at(x0 + (x1 - x0) * i / pieces, y0 + (y1 - y0) * i / pieces) for i in range(pieces + 1)]
    return out


def box_at(x, y):
    from matplotlib.transforms import Bbox
    return Bbox.from_extents(x - 0.8, y - 0.8, x + 0.8, y + 0.8)


def contains(outer, inner):
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


def box_of(text):
    return text.get_window_extent(text.figure.canvas.get_renderer())


def overlaps(figure):
    """Texts of a picture that cover each other, or are cut off at its edge, as sentences."""
    texts = [(text.get_text(), box_of(text).padded(-1)) for text in drawn_texts(figure)]
    covered = [f"'{a}' and '{b}' cover each other" for (a, at), (b, bt) in itertools.combinations(texts, 2)
               if at.overlaps(bt)]
    return covered + [f"'{text}' is cut off" for text, at in texts if not contains(figure.bbox, at)]


def drawn_texts(figure):
    out = list(figure.texts)
    for axes in figure.axes:
        out += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts,
                *(axes.get_legend().get_texts() if axes.get_legend() else [])]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            out += [label for at, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels()) if low <= at <= high]
    return [text for text in out if text.get_text().strip()]
