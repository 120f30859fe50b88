"""How many GPUs the pods of a cluster trace need when GPUs are cut for them.

Reads a pod list in the form of Alibaba's GPU cluster trace of 2023 (https://github.com/alibaba/clusterdata,
cluster-trace-gpu-v2023), of which the columns name, num_gpu and gpu_milli (thousandths of one GPU) are used:

- a pod with part of one GPU becomes a workload with that `gpu_share`;
- a pod with one or several entire GPUs becomes that many replicas of `whole`; a plan does not keep the GPUs of one pod
  in one host, and does not have to: it counts GPUs here, not hosts;
- a pod without a GPU is skipped.

All pods are planned at once, as if they ran at the same time, and the GPU models they name are not looked at.

    python examples/alibaba_trace.py                                  the made-up example next to this file
    python examples/alibaba_trace.py openb_pod_list_default.csv       the file, or the folder it lies in
    python examples/alibaba_trace.py PATH --gpu T4 --out workloads.yaml --html plan.html
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from partitioner import PartitionerError, SpecError, Workload, catalog, plan
from partitioner.documents import write
from partitioner.errors import Problem

MADE_UP = Path(__file__).with_name("made_up_trace.csv")
POD_LIST = "openb_pod_list_default.csv"
NEEDED = ("name", "num_gpu", "gpu_milli")
WHOLE = 1000  # thousandths of one GPU


def read_trace(path: Path) -> tuple[list[Workload], int]:
    """Return the workloads of a pod list and the number of pods without a GPU.

    Parameters
    ----------
    path : the CSV file, or the folder in which it has the name that Alibaba gave it.

    Raises
    ------
    SpecError
        The file cannot be read, lacks a column, or has bad rows: all of them, each with its line.
    """
    file = path / POD_LIST if path.is_dir() else path
    workloads: list[Workload] = []
    problems: list[Problem] = []
    first_line: dict[str, int] = {}
    skipped = 0
    for line, row in read_rows(file):
        try:
            workload = workload_of_pod(row)
            if workload is None:
                skipped += 1
                continue
            workloads.append(workload)
            first = first_line.setdefault(workload.name, line)
            if first != line:
                problems.append(Problem(f"name {workload.name!r} stands in line {first} too; names are unique", str(file), line))
        except SpecError as error:
            problems += [Problem(problem.message, str(file), line, problem.field) for problem in error.problems]
    if problems:
        raise SpecError(problems)
    if not workloads:
        raise SpecError(Problem("no pod asks for a GPU; nothing to plan", str(file)))
    return workloads, skipped


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Iterate over (line, row by column) of a pod list.

    Raises
    ------
    SpecError
        The file cannot be read or lacks a column.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, strict=True)
            missing = [column for column in NEEDED if column not in (rows.fieldnames or ())]
            if missing:
                message = f"no column {', '.join(map(repr, missing))}; columns needed are {', '.join(NEEDED)}"
                raise SpecError(Problem(message, str(file), 1))
            for row in rows:
                yield rows.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(Problem(f"cannot be read: {error}", str(file))) from error


def workload_of_pod(row: dict[str, str]) -> Workload | None:
    """Return what one row asks for; None where it asks for no GPU.

    Raises
    ------
    SpecError
        A value is missing, is no number, or does not go with the other one.
    """
    if None in row or None in row.values():  # what csv does with a value too many or too few
        raise SpecError("the row has more or fewer values than there are columns")
    num_gpu, gpu_milli = whole_number(row, "num_gpu"), whole_number(row, "gpu_milli")
    if num_gpu == 0 and gpu_milli == 0:
        return None
    if num_gpu == 1 and 0 < gpu_milli < WHOLE:
        return Workload(row["name"], gpu_share=gpu_milli / WHOLE)
    if num_gpu >= 1 and gpu_milli == WHOLE:
        return Workload(row["name"], profile="whole", count=num_gpu)
    rule = "gpu_milli is 0 without a GPU, 1 to 1000 of one GPU, and 1000 of several"
    raise SpecError(f"num_gpu {num_gpu} with gpu_milli {gpu_milli}; {rule}")


def whole_number(row: dict[str, str], column: str) -> int:
    """Return the number in a column of a row."""
    text = row[column].strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise SpecError(f"{column} {text!r} is not a whole number from 0 on")
    return int(text)


def first_fit_decreasing(shares: list[int]) -> int:
    """Return the GPUs that shares [thousandths] take when each, largest first, goes to the first GPU with room."""
    room: list[int] = []
    for share in sorted(shares, reverse=True):
        at = next((gpu for gpu, free in enumerate(room) if free >= share), None)
        if at is None:
            room.append(WHOLE - share)
        else:
            room[at] -= share
    return len(room)


def dump(workloads: list[Workload]) -> str:
    """Return the workloads in the form of a workload file."""
    entries = []
    for workload in workloads:
        if workload.gpu_share is not None:
            entries.append({"name": workload.name, "gpu_share": workload.gpu_share})
        else:
            entries.append({"name": workload.name, "profile": workload.profile, "count": workload.count})
    return yaml.safe_dump({"workloads": entries}, default_flow_style=None, sort_keys=False, width=1000)


def main() -> None:
    """Read the trace, plan it, and compare."""
    parser = argparse.ArgumentParser(description="Plan the pods of a GPU cluster trace.")
    parser.add_argument("path", nargs="?", type=Path, default=MADE_UP, help="pod list (CSV) or its folder; default: made up")
    parser.add_argument("--gpu", default="A100-80GB", help="GPU model to plan with")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the workloads as YAML")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the plan with its picture")
    options = parser.parse_args()

    workloads, skipped = read_trace(options.path)
    if options.out:
        write(options.out, dump(workloads))
    # A GPU is cut by MIG where it has MIG, and shared in time by vGPUs where it has none.
    cut = "mig" if "mig" in catalog.gpu(options.gpu).modes else "vgpu"
    started = time.perf_counter()
    answer = plan(workloads, gpu=options.gpu, modes=(cut, "whole"))
    seconds = time.perf_counter() - started
    if options.html:
        write(options.html, answer.to_html())

    shares = [round(w.gpu_share * WHOLE) for w in workloads if w.gpu_share is not None]
    entire = sum(w.count for w in workloads if w.gpu_share is None)
    print(f"{len(workloads):,} pods with GPUs ({len(shares):,} with part of one), {skipped:,} without skipped")
    print(answer)
    print(f"Planned and verified in {seconds:.2f} s.\n")
    print(f"{answer.gpus_used:7,} GPUs, cut as planned ({cut} and whole); at least {answer.lower_bound:,}: {answer.certificate}")
    print(f"{entire + len(shares):7,} GPUs, an entire one for every GPU asked for")
    print(f"{entire + first_fit_decreasing(shares):7,} GPUs, if they could be cut anywhere: first-fit decreasing on the shares")


if __name__ == "__main__":
    try:
        main()
    except PartitionerError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
