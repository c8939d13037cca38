"""Files that become shorter while the program uses them."""
import contextlib
import http.client
import shutil
import signal

from tests.e2e.support import PATIENCE_S, chat

EXIT_FILE_LOST = 3


def test_a_model_that_is_cut_short_ends_the_edge_with_words_and_no_signal(folder, model, start):
    path = folder / "own.gguf"
    shutil.copyfile(model, path)
    edge = start("edge", name="edge", model=path)
    with open(path, "r+b") as file:
        file.truncate(4096)
    # What reads the weights that were not copied when the model was loaded.
    with contextlib.suppress(OSError, http.client.HTTPException):
        chat(edge, [{"role": "user", "content": "Who carries the lamp?"}])
    assert edge.process.wait(PATIENCE_S) == EXIT_FILE_LOST
    assert f"{path}: the file has become shorter" in edge.log_tail()


def test_another_bus_error_is_not_hidden(start):
    edge = start("edge")
    edge.process.send_signal(signal.SIGBUS)
    assert edge.process.wait(PATIENCE_S) == -signal.SIGBUS
