"""The progress bar: Keras's lines on a terminal, one plain line in a log, values read only when they are shown."""

import io
import re
import sys
import types

import numpy as np
import pytest
from made_models import compiled

from nbkeras import Sequential, config, layers
from nbkeras.engine import progress
from nbkeras.engine.progress import Progbar, compilations_shown
from nbkeras.kernels.runtime import cache, cache_files, code


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "perf_counter", clock)
    return clock


def stdout(monkeypatch, stream):
    """Let the bar write to a stream; sys.stdout itself is pytest's while a test runs."""
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stdout=stream, modules={}, maxsize=sys.maxsize))
    return stream


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "PYCHARM_HOSTED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stdout(monkeypatch, Terminal())


@pytest.fixture
def log(monkeypatch):
    monkeypatch.delenv("PYCHARM_HOSTED", raising=False)
    return stdout(monkeypatch, io.StringIO())


def plain(text):
    return re.sub(r"\x1b\[\d+m", "", text)


def screen(text):
    """The lines that a terminal shows after the text: a carriage return goes back to the start of the line."""
    lines = []
    for line in plain(text).split("\n"):
        shown = ""
        for piece in line.split("\r"):
            shown = piece + shown[len(piece) :]
        lines.append(shown.rstrip())
    return lines


def run(clock, progbar, steps, seconds, logs=(("accuracy", 0.92), ("loss", 0.25))):
    for step in range(1, steps + 1):
        clock.now += seconds
        progbar.update(step, list(logs))


def test_final_line_on_a_terminal_is_keras_s(terminal, clock):
    run(clock, Progbar(469), 469, 0.003)
    assert screen(terminal.getvalue()) == [
        "469/469 ━━━━━━━━━━━━━━━━━━━━ 1s 3ms/step - accuracy: 0.9200 - loss: 0.2500",
        "",
    ]


def test_running_line_shows_bar_and_time_to_go(terminal, clock):
    run(clock, Progbar(100), 25, 2.0)
    assert screen(terminal.getvalue()) == [
        " 25/100 ━━━━━━━━━━━━━━━━━━━━ 2:30 2s/step - accuracy: 0.9200 - loss: 0.2500"
    ]
    assert "\x1b[32m━━━━━\x1b[0m\x1b[37m━━━━━━━━━━━━━━━\x1b[0m" in terminal.getvalue()


@pytest.mark.parametrize("seconds, shown", [(30, "49:30 30s/step"), (80, "2:12:00 80s/step"), (0.5, "49s 500ms/step")])
def test_time_to_go(terminal, clock, seconds, shown):
    run(clock, Progbar(100), 1, seconds)
    assert shown in screen(terminal.getvalue())[0]


def test_first_step_is_left_out_of_the_time_per_step(terminal, clock):
    progbar = Progbar(10)
    clock.now += 5
    progbar.update(1)
    for step in range(2, 11):
        clock.now += 0.01
        progbar.update(step)
    assert "10/10 ━━━━━━━━━━━━━━━━━━━━ 5s 10ms/step" in screen(terminal.getvalue())[0]


def test_redraws_no_more_often_than_the_interval(terminal, clock):
    run(clock, Progbar(1000, interval=0.05), 999, 0.001)
    assert 15 <= terminal.getvalue().count("\r") <= 25


def test_a_shorter_line_wipes_the_longer_one(terminal, clock):
    progbar = Progbar(2, stateless_metrics=())
    clock.now += 1
    progbar.update(1, [("loss", 1e-5)])
    clock.now += 1
    progbar.update(2, [("loss", 0.5)])
    assert screen(terminal.getvalue())[0].endswith("- loss: 0.5000")


def test_a_running_line_fits_a_narrow_terminal(terminal, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    progbar = Progbar(10)
    run(clock, progbar, 9, 1.0)
    assert all(len(line) < 50 for line in plain(terminal.getvalue()).split("\r"))
    run(clock, progbar, 10, 1.0)
    assert "loss: 0.2500" in screen(terminal.getvalue())[0]


def test_no_color(terminal, clock, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    run(clock, Progbar(3), 3, 1.0)
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_log_gets_one_line_without_control_characters(log, clock, verbose):
    run(clock, Progbar(469, verbose=verbose), 469, 0.003)
    text = log.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    bar = "━━━━━━━━━━━━━━━━━━━━ 1s" if verbose == 1 else "- 1s -"
    assert text == f"469/469 {bar} 3ms/step - accuracy: 0.9200 - loss: 0.2500\n"


def test_dumb_terminals_count_as_logs(terminal, clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    run(clock, Progbar(5), 5, 1.0)
    assert "\r" not in terminal.getvalue() and terminal.getvalue().count("\n") == 1


def test_silent(terminal, clock):
    run(clock, Progbar(5, verbose=0), 5, 1.0)
    assert terminal.getvalue() == ""


def test_unknown_target(terminal, clock):
    progbar = Progbar(None)
    run(clock, progbar, 3, 1.0)
    assert screen(terminal.getvalue())[0].startswith("      3/Unknown 3s 1s/step")
    progbar.update(3, finalize=True)
    assert terminal.getvalue().endswith("\n")


def test_values_are_averaged_over_steps_unless_stateful(log, clock):
    progbar = Progbar(4, stateful_metrics=["last"], verbose=2)
    for step, value in enumerate([1.0, 2.0, 3.0], 1):
        progbar.update(step, [("mean", value), ("last", value)])
    progbar.update(4, finalize=True)
    assert "- mean: 2.0000 - last: 3.0000" in log.getvalue()


def test_add_counts_on_and_weighs_by_steps(log, clock):
    progbar = Progbar(10, verbose=2)
    progbar.add(3, [("loss", 1.0)])
    progbar.add(6, [("loss", 4.0)])
    progbar.add(1)
    assert "10/10" in log.getvalue() and "loss: 3.0000" in log.getvalue()


def test_small_and_negative_values(log, clock):
    Progbar(1, verbose=2).update(1, [("tiny", 1.5e-5), ("negative", -2.5), ("zero", 0.0)])
    assert "tiny: 1.5000e-05 - negative: -2.5000 - zero: 0.0000e+00" in log.getvalue()


def test_both_kinds_of_names_are_refused():
    with pytest.raises(ValueError, match="give stateful_metrics or stateless_metrics, not both"):
        Progbar(3, stateful_metrics=["a"], stateless_metrics=["b"])


def test_a_function_is_called_only_when_the_bar_is_drawn(terminal, clock):
    calls = []

    def logs():
        calls.append(clock.now)
        return {"loss": 0.5}

    progbar = Progbar(1000, stateless_metrics=())
    for step in range(1, 1001):
        clock.now += 0.001
        progbar.update(step, logs)
    assert 15 <= len(calls) <= 25
    assert screen(terminal.getvalue())[0].endswith("loss: 0.5000")


def test_a_function_is_never_called_when_silent_and_once_in_a_log(log, clock):
    calls = []

    def logs():
        calls.append(1)
        return {"loss": 0.5}

    for verbose in (0, 1):
        progbar = Progbar(100, verbose=verbose, stateless_metrics=())
        for step in range(1, 101):
            progbar.update(step, logs)
        assert len(calls) == verbose


def test_a_function_whose_values_are_averaged_is_always_called(log, clock):
    values = iter([1.0, 2.0, 6.0, 0.0])
    progbar = Progbar(4, verbose=2)
    for step in range(1, 4):
        progbar.update(step, lambda: {"loss": next(values)})
    progbar.update(4)
    assert "loss: 3.0000" in log.getvalue()


def test_an_output_that_cannot_encode_the_bar(monkeypatch, clock):
    raw = io.BytesIO()
    stdout(monkeypatch, io.TextIOWrapper(raw, encoding="ascii"))
    Progbar(5).update(5, [("é", 1.0)])
    assert raw.getvalue().decode("ascii").startswith("5/5 ==================== 0s")
    assert "- ?: 1.0000" in raw.getvalue().decode("ascii")


def test_a_server_gets_progress_in_its_log(caplog, capsys):
    config.disable_interactive_logging()
    try:
        with caplog.at_level("INFO", logger="nbkeras"):
            Progbar(2, verbose=2).update(2, {"loss": 0.5})
    finally:
        config.enable_interactive_logging()
    assert "2/2" in caplog.messages[0] and "loss: 0.5" in caplog.messages[0]
    assert capsys.readouterr().out == ""


# -------------------- while kernels are compiled --------------------


@pytest.fixture
def compile_one(monkeypatch, clock):
    """Compile a kernel, with an empty cache on disk; the clock says that it took so many seconds."""

    @cache.compiled
    def first(x):
        pass

    first(1)  # loads what every process loads once, which would count as kernels too
    monkeypatch.setattr(cache_files, "read", lambda name: None)
    monkeypatch.setattr(cache_files, "write", lambda name, payload: None)
    monkeypatch.setattr(progress, "_compilations", progress._Compilations())

    def compile_one(seconds):
        @cache.compiled
        def nothing(x):
            pass

        nothing(1)
        clock.now += seconds

    return compile_one


def test_a_terminal_counts_kernels_until_the_bar_is_drawn(terminal, clock, compile_one):
    progbar = Progbar(2, stateless_metrics=())
    with compilations_shown(1):
        for shown in ("", "", ": 3", ": 4"):
            compile_one(0.1)
            assert screen(terminal.getvalue())[-1] == (shown and f"Compiling kernels (once on this machine){shown}")
        clock.now += 1.6
        progbar.update(1, {"loss": 0.5})
        assert screen(terminal.getvalue()) == ["1/2 ━━━━━━━━━━━━━━━━━━━━ 2s 2s/step - loss: 0.5000"]
        for _ in range(4):
            compile_one(0.5)
        assert screen(terminal.getvalue()) == ["Compiling kernels (once on this machine): 8"]
    assert screen(terminal.getvalue()) == [""]
    progress.print_message("Epoch 2/2")
    assert screen(terminal.getvalue()) == ["Epoch 2/2", ""]


def test_a_log_hears_once_of_compilations(log, clock, compile_one):
    for _ in range(2):
        with compilations_shown(2):
            for _ in range(4):
                compile_one(0.4)
    assert log.getvalue() == "Compiling kernels (once on this machine) ...\n"


@pytest.mark.parametrize(
    "verbose, count, seconds", [(1, 2, 0.9), (1, 9, 100), (0, 9, 0.5)], ids=["few", "rare", "silent"]
)
def test_nothing_is_said_of_compilations(terminal, compile_one, verbose, count, seconds):
    with compilations_shown(verbose):
        for _ in range(count):
            compile_one(seconds)
    for _ in range(3):
        compile_one(2)
    assert terminal.getvalue() == ""


def test_a_log_does_not_hear_of_less_than_a_second(log, compile_one):
    with compilations_shown(1):
        for _ in range(6):
            compile_one(0.15)
    assert log.getvalue() == ""


def test_a_narrow_terminal_gets_what_fits(terminal, compile_one, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    with compilations_shown(1):
        for _ in range(3):
            compile_one(1.0)
        assert screen(terminal.getvalue()) == ["Compiling kernels ("]


@pytest.mark.parametrize("verbose", [0, 1])
def test_fit_evaluate_and_predict_hear_where_they_are_not_silent(verbose, capsys):
    listeners = []

    class Listening(layers.Layer):
        def call(self, x):
            listeners.append(code._thread.listener)
            return x * 1.0

    def model():
        model = compiled(Sequential([layers.Input((2,)), Listening(), layers.Dense(1)]))
        listeners.clear()
        return model

    x, y = np.ones((2, 2), np.float32), np.ones((2, 1), np.float32)
    expected = [progress._compilations if verbose else None]
    for run in (
        lambda model: model.fit(x, y, verbose=verbose),
        lambda model: model.evaluate(x, y, verbose=verbose),
        lambda model: model.predict(x, verbose=verbose),
    ):
        run(model())
        assert listeners == expected
    assert code._thread.listener is None


@pytest.mark.parametrize("columns", [12, 20, 30, 40])
def test_a_terminal_narrower_than_the_bar(terminal, clock, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    run(clock, Progbar(10), 9, 1.0)
    pieces = plain(terminal.getvalue()).split("\r")
    assert all(len(line) < columns for line in pieces) and " 9/10" in pieces[-1]


def test_a_window_that_becomes_narrower_is_not_filled_beyond_its_side(terminal, clock, monkeypatch):
    progbar = Progbar(10)
    run(clock, progbar, 5, 1.0)
    monkeypatch.setenv("COLUMNS", "40")
    start = len(terminal.getvalue())
    clock.now += 1
    progbar.update(6)
    assert len(plain(terminal.getvalue()[start:]).strip("\r")) < 40


def test_notebooks_redraw_the_line_without_a_width(monkeypatch, clock):
    """ipykernel's stream is no terminal; a redirected stream in a notebook is a plain one."""
    monkeypatch.delenv("PYCHARM_HOSTED", raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    cell = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    stdout(monkeypatch, cell)
    run(clock, Progbar(4), 4, 1.0)
    assert cell.getvalue().count("\r") == 4 and "loss: 0.2500" in plain(cell.getvalue().split("\r")[1])
    redirected = stdout(monkeypatch, io.StringIO())
    progress.sys.modules["ipykernel"] = None
    run(clock, Progbar(4), 4, 1.0)
    assert redirected.getvalue().count("\n") == 1 and "\r" not in redirected.getvalue()
    assert "\x1b" not in redirected.getvalue()


def test_a_program_without_a_console_trains_silently(monkeypatch, clock):
    stdout(monkeypatch, None)
    run(clock, Progbar(4), 4, 1.0)
