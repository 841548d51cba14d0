"""The layer that does: threads, locks, sockets and files around the machines of seekfs_core.

It carries out what the core decides and turns what happened into events. An ``if`` about
pages, ranges, retries or versions does not belong here but in a machine.
"""
