"""A first look: plan a mixed fleet, print the plan, and write its picture.

python examples/demo.py [FOLDER]        writes to demo/ unless told otherwise
"""

import sys
from pathlib import Path

import partitioner as gp

HERE = Path(__file__).parent


def main() -> None:
    """Plan examples/workloads.yaml on examples/fleet.yaml."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)

    plan = gp.plan(HERE / "workloads.yaml", fleet=HERE / "fleet.yaml")
    print(plan)

    (folder / "plan.svg").write_text(plan.to_svg(), encoding="utf-8")
    (folder / "plan.html").write_text(plan.to_html(), encoding="utf-8")
    plan.save(folder / "plan.json")

    print(f"""Written:
  {folder / "plan.html"}   the picture with its figures and tables: open it in a browser
  {folder / "plan.svg"}    the picture alone
  {folder / "plan.json"}   the plan, to be loaded again: partitioner show {folder / "plan.json"}

Try next (after: source .venv/bin/activate):
  edit examples/workloads.yaml or examples/fleet.yaml and run this again
  partitioner plan 4g+2g+3x1g --gpu A100-80GB     how many GPUs, for MIG slices named in short
  partitioner catalog show A100-80GB              what an A100 can be cut into
  notebooks/quick_start.ipynb                     the same from Python, step by step""")


if __name__ == "__main__":
    main()
