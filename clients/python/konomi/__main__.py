"""`python -m konomi`: the same as `konomi`."""

from konomi.cli import main

if __name__ == "__main__":
    main()
