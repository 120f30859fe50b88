"""The commands `partitioner bench ...`: run scenarios, go on after a break, compare, report, hand over to MLPerf's harness.

Reads arguments, calls the package, prints; nothing is decided here. The command line of the planner attaches `app` by its name.
Only `terminal` knows that command line; servers and frameworks are loaded when a command runs, so that help is instant.
"""

from __future__ import annotations

import typer

from benchmarks.cli import listing, measuring, mlperf, reading

_HELP = """Measure real inference on every instance of a GPU that is cut, at the same time: per instance and in all.

\b
  partitioner bench list                                      scenarios and models that are known
  partitioner bench run                                       7g, 4g+2g+1g, 2g+2g+2g+1g, 7x1g with ResNet-50, three times
  partitioner bench run 4g+2g+1g 7x1g --model bert-99 --mode server --latency-ms 130 --out results
  partitioner bench run study.yaml --out results              a study from a file; `bench schema` prints its form
  partitioner bench resume results                            measures what is missing
  partitioner bench compare results --baseline 7g             tables, or --csv
  partitioner bench report results --out report.html          one page with plots
  partitioner bench export-mlperf 7x1g --model resnet50 --rate 4000 --out harness

On a GPU that is cut, one tritonserver runs on each instance. Without a GPU the same servers run on slices of the CPU, which
is said in every output; --servers emulated rehearses with the calibration's service times and infers nothing.
"""

app = typer.Typer(
    name="bench",
    help=_HELP,
    short_help="Measure inference on every instance of a cut GPU.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("list", short_help="List scenarios and models.")(listing.list_)
app.command("schema", short_help="Print the JSON schema of a study, for editors.")(listing.schema)
app.command("run", help=measuring.RUN_HELP, short_help="Measure scenarios; print the comparison.")(measuring.run)
app.command("resume", short_help="Measure what is missing in a folder.")(measuring.resume)
app.command("max-rate", help=measuring.RATE_HELP, short_help="Find the highest rates that keep a latency bound.")(
    measuring.max_rate
)
app.command("compare", help=reading.COMPARE_HELP, short_help="Put results side by side.")(reading.compare)
app.command("report", short_help="Write one HTML page with tables and plots.")(reading.report)
app.command("calibrate", help=reading.CALIBRATE_HELP, short_help="Write results as a calibration for the next plan.")(
    reading.calibrate
)
app.command("export-mlperf", help=mlperf.EXPORT_HELP, short_help="Write files for NVIDIA's MLPerf harness.")(mlperf.export_mlperf)
