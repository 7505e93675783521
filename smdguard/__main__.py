"""python -m smdguard is the command line."""

from smdguard.cli import main

if __name__ == "__main__":
    main()
