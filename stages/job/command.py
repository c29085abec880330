"""How a stage's main(job) becomes a command."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cpal.files import sweep
from cpal.running.times import taken, write_taken
from cpal.settings.base import Amp
from cpal.settings.config import load_config
from stages import BEGUN, COMMAND
from stages.job.announce import first_line, pipeline
from stages.job.job import Job
from stages.job.launch import ON_THIS_MACHINE, PROCESSES, RANK, check_launch, leave, relaunch
from stages.job.network import NetworkJob
from stages.job.options import DEFAULT_WORKERS, Limit, Out, Params, Workers
from stages.job.paths import PARAMS, TIMES
from stages.job.run import run
from stages.job.stopping import CONTINUES, ignore_signals

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Half = Annotated[
    Amp,
    typer.Option("--amp", envvar="CPAL_AMP", help="Precision of inference on CUDA; trainings have the setting amp."),
]
Loaders = Annotated[
    int | None,
    typer.Option(
        "--loaders",
        min=0,
        help="Processes that read images ahead; default: 1 on a CPU, else one for each core, at most 12.",
        show_default=False,
    ),
]


def run_stage(main: Callable[[Any], None]) -> None:
    """Run a stage as a command: main(job: Job), or main(job: NetworkJob) with the options of a network."""
    name = Path(sys.modules[main.__module__].__file__ or "").stem
    kind = next(iter(inspect.signature(main).parameters.values())).annotation

    def start(job: Job) -> None:
        sweep(job.scratch)
        first = RANK == 0 and name in (order := pipeline())
        if first:
            print(first_line(job, order), flush=True)
        main(job)
        if first and job.out is None:
            note_taken(name)
        leave()

    def on_processor(
        params: Params = PARAMS, workers: Workers = DEFAULT_WORKERS, limit: Limit = None, out: Out = None
    ) -> None:
        config = load_config(params)
        check_launch(config, name, shared=False)
        start(Job(name, config, params, workers, limit, out))

    def on_network(
        params: Params = PARAMS,
        device: Device = "auto",
        loaders: Loaders = None,
        workers: Workers = DEFAULT_WORKERS,
        limit: Limit = None,
        out: Out = None,
        amp: Half = "off",
    ) -> None:
        relaunch(name)
        workers = max(min(workers, 1), workers // ON_THIS_MACHINE)  # 0 stays 0: no cluster
        config = load_config(params)
        check_launch(config, name, shared=True)
        start(NetworkJob(name, config, params, workers, limit, out, device, loaders, amp))

    command = on_network if kind is NetworkJob else on_processor
    run(command, help=sys.modules[main.__module__].__doc__, stopped=CONTINUES)


def note_taken(name: str) -> None:
    """Write what this stage took. Its results are there already, so that an error here is only told."""
    if COMMAND:
        ignore_signals()
    try:
        write_taken(TIMES, name, taken(BEGUN, PROCESSES))
    except OSError as error:
        print(f"note: {TIMES / name}.json: {error.strerror}; the report will not say what {name} took", file=sys.stderr)
