"""The layer that does: threads, locks, sockets and files around the machines of seekfs_core.

It carries out what the core decides and turns what happened into events. An ``if`` about
pages, ranges, retries or versions does not belong here but in a machine.

| module | does |
|---|---|
| ``dataplane``     | everything between a request and the store, in one object: the place to begin |
| ``resolving``     | drives the manifest resolver |
| ``reading``       | one read: its slices, from wherever their pages are |
| ``fetching``      | drives the fetch scheduler and write-behind |
| ``transfers``     | an answer of the store that is on its way, and may be broken off |
| ``pages``         | RAM, the disk cache, and the shelf of manifests |
| ``objects``       | object stores: S3 servers, and a local directory |
| ``tracing``       | records what the machines are fed, if that is asked for |
| ``threads``       | a pool of threads that may be abandoned |
| ``publisher``     | making versions and looking at them; ``publishing`` has its parts |
| ``client``        | the client of a daemon; ``answers`` reads what that says, ``unix_socket`` leads to it |
| ``config``        | the configuration: ``config_tree`` has its keys, ``config_rules`` what they may be |
| ``memory_limits`` | how much memory there is |
| ``logs``          | one line an event on stderr |
| ``printable``     | text of others, as it may be shown |
| ``cli``           | the command line |
| ``demo``          | ``seekfs demo`` |
| ``devserver``     | a real S3 server for development: a process (``seaweed``) with a ``keeper`` |
"""
