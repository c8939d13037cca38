"""Writes the tables of docs/measurements/, README.md and other pages from the JSON that is their one home.

    ./dev run python3 -m bench.measurements            # after a file in docs/measurements/ has changed
    ./dev run python3 -m bench.measurements --check    # changes nothing; fails if a page is not up to date (part of lint)

docs/measurements/TOPIC/NAME.json is one measurement, made on one day by one command:

    title     the heading of its section
    date      the day it was made, as 2026-11-23
    machine   CPU, cores, memory, and whether anything else was running
    command   list of the commands that made it, the main one last; a line that begins with a space continues the one
              before; [] if it was made by hand (the note says how)
    weights   real | demo (the trained family in models/) | random (right for speed, meaningless for answers) | none
    model     which model, or what stood in for it (optional)
    runs      how many, and what is shown of them (optional)
    note      what a reader must know in order to read the table (optional)
    columns   names, or {"name", "digits", "suffix"}
    rows      lists as long as columns: text; whole numbers; decimals, shown with the column's digits; [value, low, high]
              for a value with its 95 % interval; null for an empty cell
    findings  list of sentences: what the figures show (optional)
    image     {"file", "alt"}: a plot of the same run, beside the page (optional)

A page says where a measurement goes, and this program fills the space between the two lines:

    <!-- measured:loading/ttft -->              the complete section; in docs/measurements/ only
    <!-- measured:loading/ttft table -->        its table and where it comes from; of some rows and columns with
                                                where="Mbit/s=100" columns="context, tokens; fetching f16, ms"
    <!-- measured:index loading -->             one line for each section of loading.md
    <!-- /measured -->
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import shlex
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[1]
RENDER = "./dev run python3 -m bench.measurements"
WIDTH = 120
WEIGHTS = {"real": "pretrained weights", "demo": "trained demo models", "random": "random weights (speed only)",
           "none": "no model"}
REQUIRED = {"title", "date", "machine", "command", "weights", "columns", "rows"}
OPTIONAL = {"model", "runs", "note", "findings", "image"}
MARKED = re.compile(r"^(<!-- measured:(.+?) -->\n)(.*?)^(<!-- /measured -->)", re.DOTALL | re.MULTILINE)


class Mistake(Exception):
    """Something in a file that a person has to put right: which file, what was expected, what is there."""


def markdown_pages(root):
    """The project's own pages, sorted; nothing that a build or a package manager put there."""
    foreign = {"build", "node_modules"}
    return sorted(p for p in root.rglob("*.md")
                  if not any(part in foreign or part.startswith(".") for part in p.relative_to(root).parts))


def slug(heading):
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def check(name, measurement):
    """Raises Mistake unless `measurement` has the fields and shapes that the top of this file lists."""
    def require(condition, what):
        if not condition:
            raise Mistake(f"docs/measurements/{name}.json: {what}")

    fields = set(measurement)
    require(REQUIRED <= fields, f"missing {', '.join(sorted(REQUIRED - fields))}")
    require(fields <= REQUIRED | OPTIONAL, f"unknown {', '.join(sorted(fields - REQUIRED - OPTIONAL))}")
    weights = measurement["weights"]
    require(weights in WEIGHTS, f"weights must be one of {', '.join(WEIGHTS)}, not '{weights}'")
    try:
        datetime.date.fromisoformat(measurement["date"])
    except ValueError:
        require(False, f"date must be a day such as 2026-11-23, not '{measurement['date']}'")
    require(isinstance(measurement["command"], list), "command must be a list of commands, [] if there is none")
    require(measurement["command"] or measurement.get("note"), "without a command, the note must say how it was measured")
    width = len(measurement["columns"])
    for i, row in enumerate(measurement["rows"]):
        require(len(row) == width, f"row {i + 1} has {len(row)} cells for {width} columns")


def load(root):
    """{"loading/ttft": measurement}, all of them checked."""
    folder = root / "docs" / "measurements"
    out = {}
    for path in sorted(folder.glob("*/*.json")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        try:
            out[name] = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as e:
            raise Mistake(f"docs/measurements/{name}.json: not JSON: {e}") from e
        check(name, out[name])
    return out


def wrap(text, first="", rest=""):
    """Lines of at most WIDTH columns, code in one piece; none starts with what Markdown takes for a list or a heading."""
    held = re.sub(r" (?=([-+*#>=]+|\d+[.)])( |$))", "\0", text)
    held = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", "\0"), held)
    lines = textwrap.wrap(held, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False,
                          break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def named(column):
    return column["name"] if isinstance(column, dict) else column


def cell(value, column):
    digits, suffix = (column.get("digits"), column.get("suffix", "")) if isinstance(column, dict) else (None, "")
    if value is None:
        return ""
    if isinstance(value, str):
        return value + suffix
    if isinstance(value, list):
        value, low, high = (cell(v, {"digits": digits}) for v in value)
        return f"{value}{suffix} ({low} to {high})"
    return (f"{value:,}" if digits is None else f"{value:,.{digits}f}") + suffix


def table(measurement, columns=(), where=()):
    """A Markdown table. columns: names of those wanted (none: all); where: (name, text of the cell) that a row must have."""
    names = [named(c) for c in measurement["columns"]]
    for name in [*columns, *(name for name, _ in where)]:
        if name not in names:
            raise Mistake(f"'{measurement['title']}' has no column '{name}'; there are {', '.join(names)}")
    shown = [names.index(c) for c in columns] or range(len(names))
    rows = [[cell(v, c) for v, c in zip(row, measurement["columns"])] for row in measurement["rows"]]
    rows = [row for row in rows if all(row[names.index(name)] == text for name, text in where)]
    if not rows:
        raise Mistake(f"'{measurement['title']}' has no row where {'; '.join('='.join(w) for w in where)}")
    numeric = [not any(isinstance(row[i], str) for row in measurement["rows"]) for i in range(len(names))]
    ruler = ["--:" if numeric[i] else "---" for i in shown]
    lines = [[names[i] for i in shown], ruler, *([row[i] for i in shown] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def origin(measurement):
    """Day, machine and model, as one line for people."""
    what = [measurement["date"], measurement["machine"], WEIGHTS[measurement["weights"]], measurement.get("model"),
            measurement.get("runs")]
    return "; ".join(part for part in what if part)


def main_command(measurement):
    """Its last command without options, as code; the earlier ones prepare it. An indented line continues the one before."""
    begun = [line for line in measurement["command"] if not line.startswith(" ")]
    return f"`{begun[-1].split(' --')[0]}`" if begun else "hand"


def section(measurement):
    parts = ["## " + measurement["title"], wrap(origin(measurement) + ".")]
    if measurement["command"]:
        parts.append("\n".join("    " + line for line in measurement["command"]))
    if "note" in measurement:
        parts.append(wrap(measurement["note"]))
    if measurement["columns"]:
        parts.append(table(measurement))
    if "findings" in measurement:
        parts.append("\n".join(wrap(text, "- ", "  ") for text in measurement["findings"]))
    if "image" in measurement:
        parts.append(f"![{measurement['image']['alt']}]({measurement['image']['file']})")
    return "\n\n".join(parts)


def excerpt(page, root, measurement, name, options):
    where = [tuple(w.split("=", 1)) for w in options.get("where", "").split("; ") if w]
    columns = [c for c in options.get("columns", "").split("; ") if c]
    home = root / "docs" / "measurements" / (name.split("/")[0] + ".md")
    link = f"{os.path.relpath(home, page.parent)}#{slug(measurement['title'])}"
    source = wrap(f"[Measured]({link}): {origin(measurement)}; by {main_command(measurement)}.")
    return f"{table(measurement, columns, where)}\n\n{source}"


def index(topic, measurements, text):
    """One line for each section that `text`, the topic's page, shows, in its order."""
    lines = ["| what | day | of | machine | by |", "| --- | --- | --- | --- | --- |"]
    for _, marker, _, _ in MARKED.findall(text):
        m = measurements[marker]
        link = f"[{m['title']}]({topic}.md#{slug(m['title'])})"
        cells = [link, m["date"], WEIGHTS[m["weights"]], m["machine"], main_command(m)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def filled(page, root, measurements):
    """The page's text with everything between markers written again, and the names of the sections that it shows."""
    shown = []

    def body(marker):
        name, *options = shlex.split(marker)
        if name == "index":
            return index(options[0], measurements, (page.parent / f"{options[0]}.md").read_text(encoding="utf-8"))
        if name not in measurements:
            raise Mistake(f"{page.relative_to(root)}: no docs/measurements/{name}.json for 'measured:{name}'")
        if not options:
            shown.append(name)
            return section(measurements[name])
        return excerpt(page, root, measurements[name], name, dict(o.split("=", 1) for o in options if "=" in o))

    text = page.read_text(encoding="utf-8")
    return MARKED.sub(lambda m: f"{m[1]}\n{body(m[2])}\n\n{m[4]}", text), shown


def render(root):
    """{page: its text as it should be} for all pages with markers. Raises Mistake for a measurement that no page shows."""
    measurements = load(root)
    texts, shown = {}, []
    for page in markdown_pages(root):
        text, sections = filled(page, root, measurements)
        texts[page] = text
        shown += sections
    hidden = sorted(set(measurements) - set(shown))
    if hidden:
        raise Mistake(f"no page in docs/measurements/ shows {', '.join(hidden)}: add '<!-- measured:{hidden[0]} -->'")
    return texts


def changed(root):
    """{page: its text as it should be} for pages that are not so."""
    return {page: text for page, text in render(root).items() if text != page.read_text(encoding="utf-8")}


def stale(root):
    """What a person has to be told; empty if every page is up to date."""
    try:
        return [f"{page.relative_to(root)}: not what the JSON in docs/measurements gives; run '{RENDER}'"
                for page in changed(root)]
    except Mistake as mistake:
        return [str(mistake)]


def main():
    parser = argparse.ArgumentParser(prog="python3 -m bench.measurements", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not up to date")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, metavar="FOLDER", help="another checkout")
    options = parser.parse_args()
    if options.check:
        sys.exit("\n".join(stale(options.root)) or 0)
    try:
        pages = changed(options.root)
    except Mistake as mistake:
        sys.exit(str(mistake))
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page.relative_to(options.root)}")


if __name__ == "__main__":
    main()
