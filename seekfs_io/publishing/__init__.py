"""The parts of publishing. ``seekfs_io.publisher`` has the functions that a user of it calls.

One module a command: ``contents`` (publish), ``placing`` (put), ``generating`` (manifest gen),
``changing`` (rm, rollback), ``inspecting`` (show, diff, verify). ``driving`` carries out the machine
that publishes. ``inputs`` are local files; ``uploading`` brings them into the bucket, by ``lanes`` of
which each sends a file or one of its ``parts``; ``scanning`` reads objects back, ``digests`` are what
both compute, ``progress`` is told how far it is.
"""
