"""The parts of publishing. ``seekfs_io.publisher`` has the functions that a user of it calls."""
