"""`partitioner bench run`, `resume` and `max-rate`: from options or a file to a study, and from its results to tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.cli.reading import tell
from benchmarks.cli.terminal import FAILED, AsJson, note, print_json, print_text, printable
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from benchmarks.results import Result
    from benchmarks.runner import Hosts, Progress
    from benchmarks.scenarios import Study

DEFAULT = ("7g", "4g+2g+1g", "2g+2g+2g+1g", "7x1g")
"""Scenarios 1, 6, 7 and 8 of Table 2: the whole GPU, and the three that beat it there."""

RUN_HELP = """Measure scenarios: real inference on all instances of each at the same time. Prints the comparison.

Every repeat is kept in the folder --out as soon as it is measured; after a break, `partitioner bench resume` measures what is
missing. Exit code 4: something failed, or a result is INVALID (the reasons say why).

\b
Examples:
  partitioner bench run
  partitioner bench run 7g 4g+2g+1g --gpu A100-80GB --model bert-99 --duration 60
  partitioner bench run 4g+2g+1g --mode server --rate 1g=20 --rate 2g=45 --rate 4g=95 --latency-ms 200 --engine loadgen
  partitioner bench run study.yaml --out results
  partitioner bench run 4xT4-16Q --gpu T4 --servers emulated
"""

RATE_HELP = """Find the highest rate at which every instance of a scenario keeps a latency bound, with all of them at work.

\b
Example:
  partitioner bench max-rate 4g+2g+1g --model resnet50 --latency-ms 250
"""

_BESIDE = ("scenarios", "out", "ray", "dcgm", "as_json")
"""What may be given beside a study's file."""

Scenarios = Annotated[
    list[str] | None,
    typer.Argument(metavar="SCENARIO...", help="Scenarios, e.g. 4g+2g+1g, or one study's file.", show_default=False),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder for the results; by default one under bench-results.")
]
Gpu = Annotated[str, typer.Option("--gpu", metavar="MODEL", help="GPU model of the scenarios.")]
Gpus = Annotated[
    int | None, typer.Option("--gpus", metavar="N", help="GPUs that a scenario may use; by default as few as hold it.")
]
Models = Annotated[list[str], typer.Option("--model", metavar="MODEL", help="Model; may be given again.")]
Modes = Annotated[
    list[str], typer.Option("--mode", metavar="MODE", help="offline, server, single_stream, multi_stream; may be given again.")
]
Engine = Annotated[str, typer.Option("--engine", metavar="NAME", help="asyncio or loadgen (MLPerf's).")]
Servers = Annotated[str, typer.Option("--servers", metavar="KIND", help="triton, external, emulated or inprocess.")]
Framework = Annotated[str, typer.Option("--framework", metavar="NAME", help="onnxruntime or torch, with --servers inprocess.")]
Device = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="gpu or cpu-slices; by default a GPU where there is one.")
]
Repeats = Annotated[int, typer.Option("--repeats", metavar="N", help="How often each is measured.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of arrivals and samples.")]
Duration = Annotated[float, typer.Option("--duration", metavar="S", help="Of one measurement [s]; MLPerf asks for 600.")]
Warmup = Annotated[float, typer.Option("--warmup", metavar="S", help="Load before it that does not count [s].")]
Batch = Annotated[int | None, typer.Option("--batch", metavar="N", help="Samples in a request, offline.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", metavar="N", help="Requests in flight, offline.")]
Latency = Annotated[
    float | None, typer.Option("--latency-ms", metavar="MS", help="Bound on the p99 in mode server; by default MLPerf's.")
]
Rate = Annotated[
    list[str] | None,
    typer.Option("--rate", metavar="[NAME=]N", help="Queries/s of each instance in mode server, or by profile; else searched."),
]
Address = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="NAME=HOST:PORT", help="gRPC address of an instance's external server."),
]
Repository = Annotated[
    str | None, typer.Option("--model-repository", metavar="DIR", help="Triton's folder of models, instead of a generated one.")
]
Ray = Annotated[
    str | None, typer.Option("--ray", metavar="ADDRESS", help="Run on the nodes of a Ray cluster: auto, HOST:PORT or ray://...")
]
Dcgm = Annotated[str | None, typer.Option("--dcgm", metavar="URL", help="A DCGM exporter, for GPU metrics under MIG.")]


def run(  # one parameter for each option
    ctx: typer.Context,
    scenarios: Scenarios = None,
    *,
    out: Out = None,
    gpu: Gpu = "A100-80GB",
    gpus: Gpus = None,
    model: Models = ["resnet50"],  # noqa: B006 - typer copies it
    mode: Modes = ["offline"],  # noqa: B006
    engine: Engine = "asyncio",
    servers: Servers = "triton",
    framework: Framework = "onnxruntime",
    device: Device = None,
    repeats: Repeats = 3,
    seed: Seed = 0,
    duration: Duration = 10.0,
    warmup: Warmup = 2.0,
    batch: Batch = None,
    concurrency: Concurrency = None,
    latency_ms: Latency = None,
    rate: Rate = None,
    address: Address = None,
    model_repository: Repository = None,
    ray: Ray = None,
    dcgm: Dcgm = None,
    as_json: AsJson = False,
) -> None:
    """Measure scenarios, print the comparison."""
    from benchmarks.runner import run_study

    options = {
        "gpu": gpu,
        "gpus": gpus,
        "models": tuple(model),
        "modes": tuple(mode),
        "engine": engine,
        "servers": servers,
        "framework": framework,
        "device": device,
        "repeats": repeats,
        "seed": seed,
        "duration_s": duration,
        "warmup_s": warmup,
        "batch": batch,
        "concurrency": concurrency,
        "latency_ms": latency_ms,
        "rate_per_s": _rates(rate),
        "addresses": _pairs(address, "--address", "HOST:PORT"),
        "model_repository": model_repository,
    }
    study = _study(ctx, scenarios, options)
    folder = out or Path("bench-results", datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"))
    with _kept(folder), _bar() as progress, _hosts(ray) as hosts:
        results = run_study(study, out=folder, hosts=hosts, dcgm_url=dcgm, progress=progress)
    _finish(results, study, folder, as_json=as_json)


def resume(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `bench run --out` wrote.")],
    *,
    ray: Ray = None,
    dcgm: Dcgm = None,
    as_json: AsJson = False,
) -> None:
    """Measure what is missing of a study that was begun in a folder, and print the comparison of all of it."""
    from benchmarks import runner
    from benchmarks.runner.journal import Journal

    study = Journal(folder).study()
    with _kept(folder), _bar() as progress, _hosts(ray) as hosts:
        results = runner.resume(folder, hosts=hosts, dcgm_url=dcgm, progress=progress)
    _finish(results, study, folder, as_json=as_json)


def max_rate(
    ctx: typer.Context,
    scenarios: Scenarios = None,
    *,
    gpu: Gpu = "A100-80GB",
    gpus: Gpus = None,
    model: Models = ["resnet50"],  # noqa: B006
    engine: Engine = "asyncio",
    servers: Servers = "triton",
    device: Device = None,
    seed: Seed = 0,
    duration: Duration = 10.0,
    warmup: Warmup = 2.0,
    latency_ms: Latency = None,
    address: Address = None,
    model_repository: Repository = None,
    ray: Ray = None,
    as_json: AsJson = False,
) -> None:
    """Find the highest rates that keep a latency bound."""
    from benchmarks.runner import find_rates

    options = {
        "gpu": gpu,
        "gpus": gpus,
        "models": tuple(model),
        "engine": engine,
        "servers": servers,
        "device": device,
        "seed": seed,
        "duration_s": duration,
        "warmup_s": warmup,
        "latency_ms": latency_ms,
        "addresses": _pairs(address, "--address", "HOST:PORT"),
        "model_repository": model_repository,
    }
    study = _study(ctx, scenarios, options)
    with _bar() as progress, _hosts(ray) as hosts:
        found = find_rates(study, hosts=hosts, progress=progress)
    if as_json:
        print_json(
            [
                {"scenario": m.scenario, "rates_per_s": dict(m.rates_per_s), "converged": m.converged, "trials": len(m.trials)}
                for m in found
            ]
        )
        return
    for each in found:
        rates = ", ".join(f"{name} {rate:.4g}" for name, rate in each.rates_per_s.items())
        unsure = "" if each.converged else "; not converged, take it for a lower bound"
        trials = f"found in {len(each.trials)} trials{unsure}"
        print_text(f"{each.scenario}: {each.system_rate_per_s:.4g} queries/s in all ({rates}), {trials}")


def _study(ctx: typer.Context, scenarios: list[str] | None, options: dict[str, Any]) -> Study:
    """Return the study of a file, or of options."""
    from benchmarks.scenarios import Study

    given = tuple(scenarios or DEFAULT)
    files = [text for text in given if Path(text).suffix.casefold() in (".yaml", ".yml", ".json") or text == "-"]
    if not files:
        return Study.from_data({"scenarios": given, **options})
    if len(given) > 1:
        raise SpecError(f"{files[0]} - a study's file says all scenarios; give it alone, or scenarios only")
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params if name not in _BESIDE}
    typed = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if typed:
        said = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
        raise SpecError(f"{files[0]} - a study's file says how it is measured; write into it what {said} says, or give scenarios")
    return Study.load(files[0])


def _rates(given: Sequence[str] | None) -> dict[str, float] | None:
    if not given:
        return None
    rates = {}
    for text in given:
        for name, number in _pairs([text if "=" in text else f"*={text}"], "--rate", "N").items():
            try:
                rates[name] = float(number)
            except ValueError as error:
                wrong = f"--rate {text!r} - {number!r} is no number of queries a second"
                raise SpecError(f"{wrong}; write e.g. --rate 20 or --rate 1g=20") from error
    return rates


def _pairs(given: Sequence[str] | None, option: str, form: str) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, found, value = text.partition("=")
        if not (name and found and value):
            raise SpecError(f"{option} {text!r} - write {option} NAME={form}, with the name of an instance or a profile")
        pairs[name] = value
    return pairs


@contextmanager
def _hosts(address: str | None) -> Iterator[Hosts | None]:
    if address is None:
        yield None
        return
    from benchmarks.runner.ray_hosts import RayHosts

    hosts = RayHosts(address)
    try:
        yield hosts
    finally:
        hosts.close()


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Say where what was measured is, whatever stops the run; after bad input, nothing was begun."""
    try:
        yield
    except ValueError:
        raise
    except BaseException:
        if (folder / "study.json").exists():
            kept = "what was measured is kept" if any(folder.glob("*/repeat-*.json")) else "nothing was measured yet"
            note(f"{kept}; go on with: partitioner bench resume {folder}")
        raise


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None] | None]:
    """Draw how far the study is and how long it still takes, on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    plain = TextColumn("{task.description}", markup=False)
    with Bar(BarColumn(bar_width=24), TimeElapsedColumn(), TimeRemainingColumn(), plain, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=None)

        def draw(progress: Progress) -> None:
            bar.update(task, completed=progress.done_s, total=progress.total_s, description=printable(progress.text))

        yield draw


def _finish(results: Sequence[Result], study: Study, folder: Path, *, as_json: bool) -> None:
    tell(results, baseline=study.baseline, cost_per_gpu_hour=study.cost_per_gpu_hour, as_json=as_json)
    note(f"kept in {folder}; a page with plots: partitioner bench report {folder} --out report.html")
    if not all(result.valid for result in results):
        raise typer.Exit(FAILED)
