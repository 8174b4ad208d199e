"""python -m pykexec."""

from pykexec.cli import main

if __name__ == "__main__":
    main()
