"""``python -m partitioner.cli``."""

from partitioner.cli import main

if __name__ == "__main__":
    main()
