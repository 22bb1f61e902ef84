"""`python -m outspoken`."""

from outspoken.cli import main

if __name__ == "__main__":
    main()
