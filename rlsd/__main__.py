"""`python -m rlsd`: the command line without its script."""

from rlsd.cli.app import main

if __name__ == "__main__":
    main()
