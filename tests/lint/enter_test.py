"""scripts/enter and ./dev run: signals end the command, nothing outlives it, the user's files are where they are outside.

The root is made here: an empty folder with this machine's /usr in it.
"""
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import tempfile
import unittest

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
ENTER = CHECKOUT / "scripts" / "enter"
PATIENCE_S = 60
OWN_MOUNTS = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
MOUNT_USR = 'mount --rbind /usr "$1/usr" && shift && exec "$@"'
WAIT = ["sh", "-c", "sleep 300 & echo ready; wait"]
# Prints how often it gets the signal named: once it has come, others have half a second to come, too.
COUNT = ["python3", "-c", """if True:
    import signal, sys, time
    number, times = signal.Signals[sys.argv[1]], []
    signal.signal(number, lambda *_: times.append(1))
    print("ready", flush=True)
    while not times:
        time.sleep(0.01)
    time.sleep(0.5)
    print("times:", len(times), flush=True)
"""]


def setUpModule():
    """In the background of a shell SIGINT is ignored, under nohup SIGHUP: by all that the tests start, too, but for this."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def can_mount():
    argv = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@unittest.skipUnless(os.environ.get("CI") or can_mount(), "this machine allows no mount namespaces")
class EnterTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir="/var/tmp")  # not /tmp, which a root always has
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.home = self.folder / "home"
        self.cache = self.home / "cache"
        self.root = self.cache / "root"
        for name in ("usr", "proc", "sys", "dev", "run", "tmp", "etc/ssl/certs"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "lib", "lib64", "sbin"):
            (self.root / name).symlink_to(f"usr/{name}")

    def command(self, *command):
        return [*OWN_MOUNTS, "sh", "-c", MOUNT_USR, "sh", self.root, ENTER, self.root, CHECKOUT, self.cache, *command]

    def environment(self):
        return {**os.environ, "HOME": str(self.home)}

    def start(self, *command, **options):
        process = subprocess.Popen(self.command(*command), env=self.environment(), text=True, stdout=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, **options)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def start_and_wait(self, *command, **options):
        process = self.start(*command, **options)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def run_inside(self, *command, cwd=None):
        return subprocess.run(self.command(*command), env=self.environment(), cwd=cwd, capture_output=True, text=True,
                              timeout=PATIENCE_S, check=False)

    def output(self, *command, cwd=None):
        done = self.run_inside(*command, cwd=cwd)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    # --- signals and exit codes

    def test_the_exit_code_is_the_commands(self):
        for code in (0, 1, 7):
            self.assertEqual(self.run_inside("sh", "-c", f"exit {code}").returncode, code)

    def test_a_command_that_a_signal_ends_gives_128_and_its_number(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.assertEqual(self.run_inside("sh", "-c", f"kill -{int(number)} $$").returncode, 128 + number)

    def test_timeout_works_inside(self):
        self.assertEqual(self.run_inside("timeout", "0.2", "sleep", "300").returncode, 124)

    def test_a_signal_ends_the_command_and_its_children(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
            with self.subTest(number.name):
                process = self.start_and_wait(*WAIT)
                process.send_signal(number)
                # Reaped only once all processes of the namespace are gone, sleep among them: they hold the pipe.
                self.assertEqual(process.communicate(timeout=PATIENCE_S)[0], "")
                self.assertEqual(process.returncode, -number)

    def test_a_signal_right_after_the_start_is_not_lost(self):
        process = self.start("sleep", "300")
        process.send_signal(signal.SIGTERM)
        self.assertNotEqual(process.wait(PATIENCE_S), 0)

    def test_a_command_that_handles_the_signal_gets_it_once_and_chooses_the_exit_code(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number.name):
                process = self.start_and_wait(*COUNT, number.name)
                process.send_signal(number)
                self.assertEqual(process.communicate(timeout=PATIENCE_S)[0], "times: 1\n")
                self.assertEqual(process.returncode, 0)

    def test_a_signal_to_the_process_group_reaches_the_command_once(self):
        process = self.start_and_wait(*COUNT, "SIGINT", start_new_session=True)
        os.killpg(process.pid, signal.SIGINT)
        self.assertEqual(process.communicate(timeout=PATIENCE_S)[0], "times: 1\n")

    def test_ctrl_c_on_a_terminal_reaches_the_command_once(self):
        child, terminal = pty.fork()
        if child == 0:
            os.execvpe("unshare", list(map(str, self.command(*COUNT, "SIGINT"))), self.environment())
        self.addCleanup(os.close, terminal)
        output = read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        output += read_until(terminal, b"times: ", more=1)
        self.assertIn(b"times: 1", output)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)

    def test_who_ignores_sigint_outside_ignores_it_inside(self):
        ignoring = "import os, signal, sys; signal.signal(2, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
        show = ["grep", "SigIgn", "/proc/self/status"]
        done = subprocess.run([sys.executable, "-c", ignoring, *self.command(*show)], env=self.environment(),
                              capture_output=True, text=True, check=True)
        self.assertTrue(int(done.stdout.split()[1], 16) & 1 << signal.SIGINT - 1)
        self.assertFalse(int(self.output(*show).split()[1], 16) & 1 << signal.SIGINT - 1)

    def test_nothing_outlives_the_command(self):
        process = self.start("sh", "-c", "setsid sleep 300 & (setsid sleep 300 &); exit 3")
        self.assertEqual(process.communicate(timeout=PATIENCE_S)[0], "")  # ends once nobody holds the pipe any more
        self.assertEqual(process.returncode, 3)

    def test_orphans_are_reaped(self):
        script = "(sh -c 'sleep 0.1 &'); sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status"
        self.assertEqual(self.run_inside("sh", "-c", script).stdout, "")

    def test_standard_input_reaches_the_command(self):
        done = subprocess.run(self.command("cat"), env=self.environment(), input="words\n", capture_output=True, text=True,
                              check=True)
        self.assertEqual(done.stdout, "words\n")

    # --- files

    def test_the_users_files_are_where_they_are_outside(self):
        model = self.home / "models" / "x.gguf"
        model.parent.mkdir()
        model.write_text("a model")
        self.assertEqual(self.output("cat", model), "a model")
        self.assertEqual(self.output("cat", "x.gguf", cwd=model.parent), "a model")
        self.assertEqual(self.output("cat", "models/../models/x.gguf", cwd=self.home), "a model")

    def test_a_link_to_another_place_of_the_users_leads_there(self):
        elsewhere = self.folder / "elsewhere.gguf"
        elsewhere.write_text("a model")
        (self.home / "x.gguf").symlink_to(elsewhere)
        self.assertEqual(self.output("cat", self.home / "x.gguf"), "a model")

    def test_what_the_command_writes_is_there_outside(self):
        self.output("sh", "-c", "echo result >out.json", cwd=self.home)
        self.assertEqual((self.home / "out.json").read_text(), "result\n")

    def test_the_current_folder_is_visible_wherever_it_lies_and_again(self):
        folder = pathlib.Path("/var/lib") / f"celslm-test-{os.getpid()}"
        try:
            folder.mkdir()
        except PermissionError:
            self.skipTest("only root may write where no user's files lie")
        self.addCleanup(folder.rmdir)
        for _ in range(2):
            self.assertEqual(self.output("pwd", cwd=folder), f"{folder}\n")
            self.output("sh", "-c", "echo x >x && rm x", cwd=folder)

    def test_the_systems_folders_are_the_roots_own(self):
        (self.root / "etc" / "mine").write_text("of the root")
        self.assertEqual(self.output("cat", "/etc/mine"), "of the root")
        self.assertEqual(self.output("cat", "mine", cwd="/etc"), "of the root")

    def test_a_root_within_the_home_holds_nothing_twice(self):
        mounts = [line.split()[1] for line in self.output("cat", "/proc/self/mounts").splitlines()]
        self.assertEqual([m for m in mounts if m.startswith(f"{self.root}/") and m != f"{self.root}/usr"], [])


class DevTest(unittest.TestCase):
    """./dev itself, in a root or on a machine that needs none."""

    @unittest.skipUnless(os.environ.get("CELSLM_INSIDE"), "would make a root first")
    def test_a_signal_ends_what_dev_runs(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            command = ["sh", "-c", "echo ready; exec sleep 300"]
            process = subprocess.Popen([CHECKOUT / "dev", "run", *command], text=True, stdout=subprocess.PIPE)
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
            self.assertEqual(process.stdout.readline(), "ready\n")
            process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE_S), -number)


def read_until(terminal, words, more=0):
    """What the terminal shows, up to `words` and at least so many bytes behind them."""
    out = b""
    while words not in out or len(out) < out.index(words) + len(words) + more:
        if not select.select([terminal], [], [], PATIENCE_S)[0]:
            raise AssertionError(f"{words} expected, came: {out}")
        out += os.read(terminal, 1024)
    return out


if __name__ == "__main__":
    unittest.main()
