"""Benchmarks: our code and a peer measured in one interleaved run.

What lives here: one figure a file, each with `run_bench() -> dict`; `tapgate bench NAME` starts them by name.
What it never imports: commands, cli.
Read first: reader.py, then roster.py, whose sample cards the others use.
"""
