"""`python -m compresslab` is the `compresslab` command."""

from compresslab.cli import main

if __name__ == "__main__":
    main()
