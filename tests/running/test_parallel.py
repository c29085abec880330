"""Work in several processes of this machine."""

import signal

import pytest
from joblib import delayed

from cpal.running.parallel import processes


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_interrupts_are_for_the_first_process(workers: int) -> None:
    """Ctrl-C reaches the whole group; a worker would print a traceback."""
    before = signal.getsignal(signal.SIGINT)
    found = list(processes(workers)(delayed(signal.getsignal)(signal.SIGINT) for _ in range(3)))
    assert found == [signal.SIG_IGN if workers == 2 else before] * 3
    assert signal.getsignal(signal.SIGINT) is before
