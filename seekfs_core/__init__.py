"""The pure core of seekfs: values, functions and state machines that decide, and do no I/O.

Nothing in here opens a socket, a file or a thread, reads a clock or an environment
variable, draws entropy or logs. Time comes in as ``now`` (monotonic seconds), chance as a
seeded ``random.Random``, page bytes never: the core hears lengths and checksums.

| module | decides |
|---|---|
| ``names``       | what a namespace, a path, a key and HEAD may look like |
| ``manifest``    | the list of a version's files: decode, validate, encode |
| ``publication`` | the steps that publish a version without losing another's |
| ``plan``        | which slices of which pages answer a batch of ranges |
| ``grid``        | which GETs cover a set of missing pages |
| ``budget``      | when the next GET may start |
| ``retry``       | whether and when a failed request is tried again |
| ``fetch``       | when each GET starts, who waits for it, what a failure means to them |
| ``resolver``    | which manifest answers for a namespace now |
| ``segments``    | where on disk a page goes, and what is reclaimed |
| ``retention``   | which pages are admitted to a tier and which leave it |
"""
