"""The JSON keys that a benchmark's docstring documents, and whether results have them, and no others.

    --json keys:
      machine, runs               several keys may share a line
      cases[].users               of each element of a list
      speed.*.encode_mb_s         of each entry of a map; prefill_*: any name that begins so
      cases[].layers              a map or list with nothing documented below it holds what it likes

A line of such a list is indented by two spaces; lines indented further go on with the description.
"""
import fnmatch
import re

LINE = re.compile(r"  (\S+(?:, \S+)*?)(?:\s{2,}\S.*)?$")


def documented(docstring):
    lines = docstring.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("--json keys"))
    out = []
    for line in lines[start + 1:]:
        if line and not line.startswith(" "):
            break
        if found := LINE.match(line):
            out += [key.strip() for key in found[1].split(",")]
    return out


def differences(keys, results):
    """What is wrong with the results of one benchmark: [] where together they have the documented keys, and no others."""
    patterns = {key: parts_of(key) for key in keys}
    seen, unknown = set(), set()
    for result in results:
        for path in paths_of(result, (), list(patterns.values())):
            known = [key for key, pattern in patterns.items() if fits(path, pattern) and len(path) == len(pattern)]
            seen.update(known)
            if not known:
                unknown.add(".".join(path).replace(".[]", "[]"))
    missing = [key for key in keys if key not in seen]
    return [*(f"documented and not there: {key}" for key in missing),
            *(f"there and not documented: {key}" for key in sorted(unknown))]


def parts_of(key):
    """cases[].users: ("cases", "[]", "users")"""
    return tuple(key.replace("[]", ".[]").split("."))


def fits(path, pattern):
    """Whether the path is the pattern or leads to it."""
    alike = all(name == part or fnmatch.fnmatchcase(name, part) for name, part in zip(path, pattern))
    return alike and len(path) <= len(pattern)


def paths_of(value, path, patterns):
    """The paths of all values. What has something documented below it is entered; null there: it was not measured."""
    below = any(fits(path, pattern) and len(path) < len(pattern) for pattern in patterns)
    if below and isinstance(value, dict):
        for name, inner in value.items():
            yield from paths_of(inner, (*path, name), patterns)
    elif below and isinstance(value, list):
        for inner in value:
            yield from paths_of(inner, (*path, "[]"), patterns)
    elif not below or value is not None:
        yield path
