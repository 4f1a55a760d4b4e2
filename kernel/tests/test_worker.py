"""Worker processes: they answer, they report, they die, and they never outlive their parent."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from pl_kernel.compute import Worker, serve
from pl_kernel.compute.pool import Pool
from pl_kernel.errors import DataError, StageFailed, UnknownName, WorkerDied


def pid_of(_argument=None):
    return os.getpid()


def tell(count):
    for number in range(count):
        serve.send(number)
    return "told"


def ask_twice():
    return serve.ask(1), serve.ask(2)


def kill_self():
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse():
    raise DataError("no calibrator of intent BANDPASS in day2.ms")


def misspell():
    raise UnknownName("stage", "hanning", ["hannning"])


def stumble():
    return 1 / 0


def fill_disk():
    raise OSError(errno.ENOSPC, "No space left on device", "from", None, "snapshots/004/x")


def unpicklable():
    return lambda: None


def square(number):
    return number * number


def square_but_die_on_three_once(job):
    number, marker = job
    if number == 3 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def always_die_on_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture
def worker():
    with Worker() as worker:
        yield worker


def test_a_worker_is_another_process_and_stays_warm(worker):
    first = worker.call(pid_of)
    assert first != os.getpid()
    assert worker.call(pid_of) == first


def test_messages_arrive_in_order_before_the_answer(worker):
    heard = []
    assert worker.call(tell, 3, on_message=heard.append) == "told"
    assert heard == [0, 1, 2]


def test_a_killed_worker_is_an_error_that_names_the_signal_and_the_next_call_works(worker):
    with pytest.raises(WorkerDied, match="SIGSEGV"):
        worker.call(kill_self)
    assert worker.call(square, 4) == 16


def test_sentences_cross_the_pipe_unchanged(worker):
    with pytest.raises(DataError, match="no calibrator of intent BANDPASS in day2"):
        worker.call(refuse)
    with pytest.raises(UnknownName) as caught:
        worker.call(misspell)
    assert caught.value.near == ["hannning"]


def test_any_other_exception_becomes_a_sentence_with_the_traceback_as_detail(worker):
    with pytest.raises(StageFailed, match="ZeroDivisionError") as caught:
        worker.call(stumble)
    assert "stumble" in caught.value.detail
    with pytest.raises(StageFailed):
        worker.call(unpicklable)
    assert worker.call(square, 2) == 4


def test_a_full_disk_is_said_as_such(worker):
    with pytest.raises(StageFailed, match=r"^There is no space left to write snapshots/004/x\.$"):
        worker.call(fill_disk)


def test_questions_are_answered_while_the_function_runs(worker):
    assert worker.call(ask_twice, on_question=lambda question: question + 1) == (2, 3)
    assert worker.call(ask_twice) == (None, None)


def test_a_worker_does_not_outlive_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time
            from pl_kernel.compute import Worker
            worker = Worker()
            print(worker.call(os.getpid), flush=True)
            time.sleep(60)
            """
        )
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_the_main_script_is_not_run_again_in_the_worker(tmp_path):
    # A delivered pipeline script has no __main__ guard.
    script = tmp_path / "script.py"
    script.write_text("import os\nprint('ran', flush=True)\nfrom pl_kernel.compute import Worker\n"
                      "w = Worker()\nw.call(os.getpid)\nw.stop()\n")  # fmt: skip
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("ran") == 1


def test_a_pool_answers_in_the_order_of_the_items():
    pool = Pool(2)
    counts = []
    assert pool.map(square, [(n,) for n in range(7)], [str(n) for n in range(7)], counts.append) == [
        0, 1, 4, 9, 16, 25, 36,
    ]  # fmt: skip
    assert counts == [1, 2, 3, 4, 5, 6, 7]
    pool.close()


def test_an_item_whose_worker_dies_is_tried_once_more(tmp_path):
    pool = Pool(2)
    marker = str(tmp_path / "died")
    jobs = [((n, marker),) for n in range(5)]
    assert pool.map(square_but_die_on_three_once, jobs, list("01234")) == [0, 1, 4, 9, 16]
    pool.close()


def test_an_item_that_kills_every_worker_is_named_and_the_others_are_answered():
    pool = Pool(2)
    answers = pool.map(always_die_on_three, [(n,) for n in range(5)], [f"spw {n}" for n in range(5)])
    pool.close()
    assert [a for a in answers if not isinstance(a, Exception)] == [0, 1, 2, 4]
    assert isinstance(answers[3], WorkerDied) and "spw 3" in str(answers[3])
