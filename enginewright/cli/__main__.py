"""`python -m enginewright.cli`, for where the script `enginewright` is not on the PATH."""

from enginewright.cli import main

if __name__ == "__main__":
    main()
