"""A systemd unit as far as these tests need it: settings, the command, its environment, the system calls it may make."""
import pathlib
import shlex
import subprocess

UNITS = pathlib.Path("/usr/lib/systemd/system")


class Unit:
    def __init__(self, name):
        self.name = name.removesuffix(".service")
        self.settings = {}  # of all sections; a key that is given several times has several values
        for line in (UNITS / f"{self.name}.service").read_text().splitlines():
            key, is_setting, value = line.partition("=")
            if is_setting and not line.startswith("#"):
                self.settings.setdefault(key, []).append(value)

    def __getitem__(self, key):
        return self.settings[key][-1]

    def all(self, key):
        """Of a setting that is a list: the words of all its values."""
        return [word for value in self.settings.get(key, []) for word in shlex.split(value)]

    def command(self):
        return shlex.split(self["ExecStart"])

    def environment(self):
        lines = self.all("Environment")
        for path in self.all("EnvironmentFile"):
            file = pathlib.Path(path.removeprefix("-"))
            if file.exists() or not path.startswith("-"):
                lines += [line for line in file.read_text().splitlines() if "=" in line and not line.startswith("#")]
        return dict(line.split("=", 1) for line in lines)

    def system_calls(self):
        """The names that SystemCallFilter= lets through."""
        sets, out = _call_sets(), set()
        for value in self.settings["SystemCallFilter"]:
            taken = set().union(*(_members(sets, word) for word in value.removeprefix("~").split()))
            out = out - taken if value.startswith("~") else out | taken
        return out


def _call_sets():
    """systemd's own groups: {"@file-system": ["access", ...]}, with groups among the members."""
    text = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter"], capture_output=True, text=True, check=True)
    sets, name = {}, None
    for line in text.stdout.splitlines():
        if line.startswith("@"):
            name = line.strip()
        elif name and line.startswith(" ") and not line.strip().startswith("#"):
            sets.setdefault(name, []).append(line.strip())
    return sets


def _members(sets, word):
    if not word.startswith("@"):
        return {word}
    return set().union(*(_members(sets, member) for member in sets[word]))
